"""A constant and Mexican hat wavelets, Wav-KAN (arXiv 2405.12832): B_0 = 1, B_m(x) = 2 / (√3 π^¼) (1 - z²) e^(-z²/2).

m = 1 … M - 1, z = (x - c_m) / h: the grid falls into M - 1 cells of width h with a wavelet in the middle of each. A Wav-KAN
edge has one wavelet whose translation and scale it learns, and no constant; here they are fixed, and the 1 stands for all
that is wider than a wavelet, which has no mean. Outside the grid the outermost wavelets run out to zero within a few h.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from allukan.ops.basis.definition import Family
from allukan.ops.bspline import GridRange

_NORM = 2 / (math.sqrt(3) * math.pi**0.25)  # of unit energy
_REACH = 9.0  # z from which a wavelet is zero for float32


def _place(x: Tensor, count: int, grid_range: GridRange) -> tuple[Tensor, float]:
    """z ``(*S, M - 1)`` and h."""
    lo, hi = grid_range
    h = (hi - lo) / (count - 1)
    middles = torch.arange(count - 1, dtype=x.dtype, device=x.device) + 0.5
    return ((x.unsqueeze(-1) - lo) / h - middles).clamp(-_REACH, _REACH), h


def values(x: Tensor, grid_size: int, spline_order: int, grid_range: GridRange) -> Tensor:
    """All functions at x, ``(*S)`` → ``(*S, M)``.

    >>> values(torch.tensor([1.5]), 2, 2, (0.0, 3.0)).round(decimals=3)
    tensor([[1.0000, 0.0000, 0.8670, 0.0000]])
    """
    square = _place(x, grid_size + spline_order, grid_range)[0].square()
    wavelets = _NORM * (1 - square) * torch.exp(-0.5 * square)
    return torch.cat([1 + 0 * square[..., :1], wavelets], -1)  # 0·z² carries NaN on


def derivative(x: Tensor, grid_size: int, spline_order: int, grid_range: GridRange) -> Tensor:
    """Their derivatives by x, the same shape."""
    z, h = _place(x, grid_size + spline_order, grid_range)
    square = z * z
    slopes = (_NORM / h) * z * (square - 3) * torch.exp(-0.5 * square)
    return torch.cat([0 * z[..., :1], slopes], -1)


def _ends(grid_size: int, spline_order: int, grid_range: GridRange) -> tuple[float, float]:
    (lo, hi), margin = grid_range, (grid_range[1] - grid_range[0]) / (grid_size + spline_order - 1) * (_REACH - 0.5)
    return lo - margin, hi + margin


def _width(grid_size: int, spline_order: int, grid_range: GridRange) -> float:
    """The fourth derivative of a Mexican hat is 15 at most, norm apart."""
    return (15 * _NORM) ** -0.25 * (grid_range[1] - grid_range[0]) / (grid_size + spline_order - 1)


FAMILY = Family(values, derivative, _ends, _width, lambda count: (2 + 9 * (count - 1), 5 * (count - 1)))
