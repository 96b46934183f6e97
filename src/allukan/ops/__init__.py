"""Tensors in, tensors out: the shared spline, the expanded basis, and the KA layers as one operation each."""

from allukan.ops.expansion import basis_expansion
from allukan.ops.spline import shared_spline

__all__ = ["basis_expansion", "shared_spline"]
