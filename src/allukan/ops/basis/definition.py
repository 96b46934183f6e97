"""What a family of basis functions B_0 … B_{M-1} is to everything that computes with it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from allukan.ops.bspline import GridRange

Functions = Callable[[Tensor, int, int, GridRange], Tensor]
Profile = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Family:
    """A basis: all of it is a function of ``(grid_size, spline_order, grid_range)``, and ``M = grid_size + spline_order``.

    Attributes:
        values: ``(x, *grid)``: ``(*S)`` → ``(*S, M)``, differentiable in x any number of times, finite at ±inf; NaN stays NaN.
        derivative: by x, the same shape, in closed form; finite at ±inf.
        ends: ``(*grid)`` → the two x beyond which every function is constant, to the rounding of float32.
        width: ``(*grid)`` → a length over which no function bends much, (max |B⁗|)^(-1/4); tables are made in steps of a
            fraction of it. Infinite for what is cubic between the borders of the grid's intervals.
        flops: M → FLOPs of the M values of an element, and of the M slopes beside them (conventions of ``costs.flops``);
            None where the B-spline's formulas hold.
    """

    values: Functions
    derivative: Functions
    ends: Callable[[int, int, GridRange], tuple[float, float]]
    width: Callable[[int, int, GridRange], float]
    flops: Callable[[int], tuple[int, int]] | None = None


def spacing(grid_size: int, spline_order: int, grid_range: GridRange) -> float:
    """Distance of the M centres that lie evenly on the grid, both ends included.

    >>> spacing(2, 2, (0.0, 6.0))
    2.0
    """
    return (grid_range[1] - grid_range[0]) / (grid_size + spline_order - 1)


def centred(profile: Profile, slope: Profile, reach: float, width: float, flops: tuple[int, int]) -> Family:
    """B_m(x) = profile(z), z = (x - c_m) / h: one bump at M even centres c_m from lo to hi, h their distance.

    ``slope`` is the derivative of the profile by z; beyond ``|z| = reach`` both are zero for float32, and z stops there.
    ``width`` is that of the profile; ``flops`` count one value and one slope, z apart.
    """

    def place(x: Tensor, grid_size: int, order: int, grid_range: GridRange) -> Tensor:
        centres = torch.arange(grid_size + order, dtype=x.dtype, device=x.device)
        h = spacing(grid_size, order, grid_range)
        return ((x.unsqueeze(-1) - grid_range[0]) / h - centres).clamp(-reach, reach)

    def values(x: Tensor, grid_size: int, spline_order: int, grid_range: GridRange) -> Tensor:
        return profile(place(x, grid_size, spline_order, grid_range))

    def derivative(x: Tensor, grid_size: int, spline_order: int, grid_range: GridRange) -> Tensor:
        return slope(place(x, grid_size, spline_order, grid_range)) / spacing(grid_size, spline_order, grid_range)

    def ends(grid_size: int, spline_order: int, grid_range: GridRange) -> tuple[float, float]:
        margin = reach * spacing(grid_size, spline_order, grid_range)
        return grid_range[0] - margin, grid_range[1] + margin

    def scaled_width(grid_size: int, spline_order: int, grid_range: GridRange) -> float:
        return width * spacing(grid_size, spline_order, grid_range)

    def cost(count: int) -> tuple[int, int]:
        value, its_slope = flops
        return 2 + count * (3 + value), count * (1 + its_slope)  # z: 2 once, a centre and two limits each; slope: 1 / h

    return Family(values, derivative, ends, scaled_width, cost)


def unit(x: Tensor, grid_range: GridRange) -> Tensor:
    """u = -1 … 1 over the grid.

    >>> unit(torch.tensor([0.0, 3.0, 6.0]), (0.0, 6.0))
    tensor([-1.,  0.,  1.])
    """
    lo, hi = grid_range
    return (x - (lo + hi) / 2) * (2 / (hi - lo))


def inside(u: Tensor) -> Tensor:
    """1 where u is on the grid, 0 beyond it, NaN where it is NaN: the slope of ``u.clamp(-1, 1)``.

    >>> inside(torch.tensor([-2.0, 1.0, float("nan")]))
    tensor([0., 1., nan])
    """
    return torch.where(u.isnan(), u, (u.abs() <= 1).to(u.dtype))


def on_grid(grid_size: int, spline_order: int, grid_range: GridRange) -> tuple[float, float]:
    """``Family.ends`` of functions that are constant beyond the grid."""
    return grid_range
