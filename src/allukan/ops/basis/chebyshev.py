"""Chebyshev polynomials of the first kind, ChebyKAN (arXiv 2405.07200): B_m(x) = T_m(tanh z), m = 0 … M - 1.

z goes from -3 to 3 over the grid, so that on (-3, 3) it is x, as in ChebyKAN. Outside the grid tanh saturates and T_m runs out to
its value at ±1, (±1)^m. ChebyKAN evaluates cos(m arccos t), whose gradient is not finite where tanh rounds to 1; here it is the
recurrence T_{m+1} = 2 t T_m - T_{m-1}, and T_m' = m U_{m-1} of the second kind.
"""

from __future__ import annotations

import torch
from torch import Tensor

from allukan.ops.basis.definition import Family, unit
from allukan.ops.bspline import GridRange

_STRETCH = 3.0  # z at the end of the grid
_REACH = 12.0  # z from which tanh is ±1 for float32


def _saturated(x: Tensor, grid_range: GridRange) -> Tensor:
    return torch.tanh((_STRETCH * unit(x, grid_range)).clamp(-_REACH, _REACH))


def values(x: Tensor, grid_size: int, spline_order: int, grid_range: GridRange) -> Tensor:
    """T_0 … T_{M-1} at x, ``(*S)`` → ``(*S, M)``.

    >>> values(torch.tensor([0.0]), 2, 2, (-3.0, 3.0))
    tensor([[ 1.,  0., -1., -0.]])
    """
    t = _saturated(x, grid_range)
    polynomials = [1 + 0 * t, t]  # 0·t carries NaN on
    while len(polynomials) < grid_size + spline_order:
        polynomials.append(2 * t * polynomials[-1] - polynomials[-2])
    return torch.stack(polynomials, -1)


def derivative(x: Tensor, grid_size: int, spline_order: int, grid_range: GridRange) -> Tensor:
    """Their derivatives by x, the same shape."""
    t = _saturated(x, grid_range)
    second = [1 + 0 * t, 2 * t]
    while len(second) < grid_size + spline_order - 1:
        second.append(2 * t * second[-1] - second[-2])
    lo, hi = grid_range
    slope = (1 - t * t) * (2 * _STRETCH / (hi - lo))
    by_t = [0 * t, *(m * u for m, u in enumerate(second[: grid_size + spline_order - 1], start=1))]
    return torch.stack(by_t, -1) * slope.unsqueeze(-1)


def _ends(grid_size: int, spline_order: int, grid_range: GridRange) -> tuple[float, float]:
    (lo, hi), half = grid_range, (grid_range[1] - grid_range[0]) / 2
    return (lo + hi) / 2 - half * _REACH / _STRETCH, (lo + hi) / 2 + half * _REACH / _STRETCH


def _width(grid_size: int, spline_order: int, grid_range: GridRange) -> float:
    """Of cos m θ, with θ' at most 1 by z, and of tanh itself."""
    return (grid_range[1] - grid_range[0]) / (2 * _STRETCH * max(2, grid_size + spline_order - 1))


FAMILY = Family(values, derivative, _ends, _width, lambda count: (5 + 3 * (count - 2), 3 + 5 * (count - 1)))
