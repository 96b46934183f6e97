"""Tensors in, tensors out: B-splines and the shared spline."""

from allukan.ops.basis_expansion import basis_expansion
from allukan.ops.shared_spline import shared_spline

__all__ = ["basis_expansion", "shared_spline"]
