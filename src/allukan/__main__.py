"""``python -m allukan`` is ``allukan``."""

from allukan.cli.main import main

main()
