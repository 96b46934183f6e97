"""One learnable activation for many inputs: the elementwise heart of the KA layers."""

from allukan.ops.shared_spline.dispatch import IMPLEMENTATIONS, shared_spline

__all__ = ["IMPLEMENTATIONS", "shared_spline"]
