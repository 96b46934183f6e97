"""Rational functions, after KAT (arXiv 2409.10594): B_m(x) = u^m / (1 + u^n), m = 0 … M - 1.

KAT learns φ = P / Q with Q = 1 + |b_1 u + … + b_n u^n| (a safe Padé approximant), numerator and denominator shared by a group of
channels. Here the numerator's coefficients are learned, shared as ``sharing`` says, and the denominator is FIXED: only its last b
is not zero, and that is 1. So φ is linear in what is learned. n is the largest even number below M, so that Q is smooth and 1 is
in the span; M = 6 has KAT's degrees, 5 over 4. u goes from -2 to 2 over the grid, Q from 1 to 2 halfway to its ends. Beyond the
grid u stays at its end and every function is constant, where KAT's φ grows linearly: here the base branch does that.
"""

from __future__ import annotations

import torch
from torch import Tensor

from allukan.ops.basis.definition import Family, inside, on_grid, unit
from allukan.ops.bspline import GridRange

_STRETCH = 2.0  # u at the end of the grid


def _powers(x: Tensor, count: int, grid_range: GridRange) -> tuple[Tensor, int]:
    """u^m ``(*S, M)`` and the degree n of Q."""
    u = unit(x, grid_range).clamp(-1, 1) * _STRETCH
    powers = [1 + 0 * u]  # 0·u carries NaN on
    while len(powers) < count:
        powers.append(powers[-1] * u)
    return torch.stack(powers, -1), (count - 1) // 2 * 2


def values(x: Tensor, grid_size: int, spline_order: int, grid_range: GridRange) -> Tensor:
    """All functions at x, ``(*S)`` → ``(*S, M)``.

    >>> values(torch.tensor([1.0]), 2, 2, (-2.0, 2.0))
    tensor([[0.5000, 0.5000, 0.5000, 0.5000]])
    """
    powers, n = _powers(x, grid_size + spline_order, grid_range)
    return powers / (1 + powers[..., n : n + 1])


def derivative(x: Tensor, grid_size: int, spline_order: int, grid_range: GridRange) -> Tensor:
    """Their derivatives by x, the same shape; zero beyond the grid."""
    powers, n = _powers(x, grid_size + spline_order, grid_range)
    lower = torch.cat([torch.zeros_like(powers[..., :1]), powers[..., :-1]], -1)  # u^(m-1)
    m = torch.arange(powers.shape[-1], dtype=x.dtype, device=x.device)
    q = 1 + powers[..., n : n + 1]
    by_u = (m * lower - powers / q * (n * lower[..., n : n + 1])) / q
    lo, hi = grid_range
    return by_u * (inside(unit(x, grid_range)) * (2 * _STRETCH / (hi - lo))).unsqueeze(-1)


def _width(grid_size: int, spline_order: int, grid_range: GridRange) -> float:
    """They bend most at |u| = 1, where the logarithm of 1 / (1 + u^n) has slopes of about n / 2."""
    return (grid_range[1] - grid_range[0]) / (2 * _STRETCH * max(2, grid_size + spline_order - 1))


FAMILY = Family(values, derivative, on_grid, _width, lambda count: (7 + 2 * (count - 2), 3 + 5 * count))
