"""How φ is computed: engines behind one contract, chosen in one place (``dispatch``)."""
