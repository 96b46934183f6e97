"""A Fourier series, FourierKAN (github.com/GistNoesis/FourierKAN): 1, sin θ, cos θ, sin 2θ, cos 2θ … the first M of them.

θ goes from -π/2 to π/2 over the grid: half a period, so that φ need not end as it began; FourierKAN takes x itself for θ, and has
the 1 in its bias. Beyond the grid θ stays at its end and every function is constant, where FourierKAN's repeat.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from allukan.ops.basis.definition import Family, inside, on_grid, unit
from allukan.ops.bspline import GridRange


def _angles(x: Tensor, count: int, grid_range: GridRange) -> tuple[Tensor, Tensor]:
    """Frequency k = ⌈m/2⌉ of every function ``(M,)``, and its phase kθ, behind by π/2 where it is a sine, ``(*S, M)``."""
    m = torch.arange(count, dtype=x.dtype, device=x.device)
    k = torch.ceil(m / 2)
    theta = unit(x, grid_range).clamp(-1, 1) * (math.pi / 2)
    return k, k * theta.unsqueeze(-1) - (m - 2 * k).abs() * (math.pi / 2)


def values(x: Tensor, grid_size: int, spline_order: int, grid_range: GridRange) -> Tensor:
    """All functions at x, ``(*S)`` → ``(*S, M)``.

    >>> values(torch.tensor([0.0, 9.0]), 2, 1, (-3.0, 3.0)).abs().round(decimals=5)
    tensor([[1., 0., 1.],
            [1., 1., 0.]])
    """
    return torch.cos(_angles(x, grid_size + spline_order, grid_range)[1])


def derivative(x: Tensor, grid_size: int, spline_order: int, grid_range: GridRange) -> Tensor:
    """Their derivatives by x, the same shape; zero beyond the grid."""
    k, phases = _angles(x, grid_size + spline_order, grid_range)
    lo, hi = grid_range
    return -k * (math.pi / (hi - lo)) * torch.sin(phases) * inside(unit(x, grid_range)).unsqueeze(-1)


def _width(grid_size: int, spline_order: int, grid_range: GridRange) -> float:
    return (grid_range[1] - grid_range[0]) / (math.pi * math.ceil((grid_size + spline_order - 1) / 2))


FAMILY = Family(values, derivative, on_grid, _width, lambda count: (5 + 3 * count, 2 + 3 * count))
