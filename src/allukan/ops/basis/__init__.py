"""The families of basis functions that a spline may be made of, by name.

A new one is one file beside the others and one line here: values, derivatives and where it ends, and the reference, the eager and
the CPU implementation, the expanded form, the initialisation and the FLOP count follow.
"""

from __future__ import annotations

from allukan.ops import bspline
from allukan.ops.basis import chebyshev, fourier, rational, rbf, rswaf, wavelet
from allukan.ops.basis.definition import Family

__all__ = ["FAMILIES", "ORDERED", "Family", "family"]


def _bspline_ends(grid_size: int, spline_order: int, grid_range: bspline.GridRange) -> tuple[float, float]:
    (lo, hi), h = grid_range, (grid_range[1] - grid_range[0]) / grid_size
    return lo - spline_order * h, hi + spline_order * h


FAMILIES: dict[str, Family] = {
    "bspline": Family(bspline.basis, bspline.basis_derivative, _bspline_ends, lambda *_: float("inf")),
    "rbf": rbf.FAMILY,
    "rswaf": rswaf.FAMILY,
    "wavelet": wavelet.FAMILY,
    "chebyshev": chebyshev.FAMILY,
    "fourier": fourier.FAMILY,
    "rational": rational.FAMILY,
}
ORDERED = ("bspline", "rbf", "rswaf")  # whose functions are bumps that follow each other along the grid


def family(name: str) -> Family:
    """The family of that name; raises ``ValueError`` for one that does not exist.

    >>> family("rbf").ends(2, 2, (0.0, 3.0))
    (-6.0, 9.0)
    """
    if name not in FAMILIES:
        raise ValueError(f"unknown basis {name!r}; choose one of {', '.join(FAMILIES)}")
    return FAMILIES[name]
