"""Whole activations as tables of straight pieces, base and spline together: what a runtime without our kernels does fastest.

φ(x) ≈ value[r] + slope[r]·u with u = x / step + zero and r = ⌊u⌋: one piece a row, the first and the last one without end, as the
base activation is a line there. ``step`` is a whole fraction of the spline's interval, so that bends lie between pieces, and is
halved until the largest error is below ``TOLERANCE``: for the default splines 1/213, at 60 kB a table.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from allukan.ops import bspline
from allukan.ops.activations import base_activation
from allukan.ops.phi import Phi

TOLERANCE = 4e-6  # of the largest value on the grid; that u is rounded to float32 is worth a third of it
LARGEST = 1 << 18  # rows of all activations of a layer: 2 MB
_COARSEST = 1 / 16  # of a step
_BETWEEN = (0.5, 0.25, 0.75)  # where in a piece the error is looked at
Curves = Callable[[Tensor], Tensor]


class Table(NamedTuple):
    """``value`` and ``slope`` are float32 ``(A, rows)``; row ``zero`` starts at x = 0; ``error`` is the largest there is."""

    step: float
    zero: int
    value: Tensor
    slope: Tensor
    error: float


def tabulate(phi: Phi, coef: Tensor, base_weight: Tensor) -> Table | None:
    """Of the activations of coef ``(A, M)`` and base_weight ``(A,)``; where φ is expanded, of b and of all B_m.

    None where straight pieces cannot do it: for other bases than B-splines, which do not end in lines, for so many activations
    that the table would be larger than ``LARGEST``, and for a kink between two of the steps.

    >>> table = tabulate(Phi(10, 3, (-3.0, 3.0)), torch.zeros(1, 13), torch.ones(1))
    >>> len(table.value), table.error < 3 * TOLERANCE
    (1, True)
    """
    if phi.basis != "bspline":
        return None
    weight = base_weight.detach().double()
    if phi.expanded:
        curves, weight = partial(_terms, phi), torch.tensor([1.0] + [0.0] * phi.coefficients, dtype=torch.float64)
    else:
        curves = partial(_activations, phi, coef.detach().double(), weight)
    lo, hi = phi.grid_range
    interval = (hi - lo) / phi.grid_size
    scale = max(1e-30, float(curves(torch.linspace(lo, hi, 1000, dtype=torch.float64)).abs().max()))
    step = interval / 2 ** max(0, math.ceil(math.log2(interval / _COARSEST)))
    while (table := _pieces(phi, curves, weight, step)) is not None:
        if table.error < TOLERANCE * scale:
            return table
        step /= 2
    return None


def _activations(phi: Phi, coef: Tensor, base_weight: Tensor, x: Tensor) -> Tensor:
    """φ_a of x ``(N,)`` → ``(A, N)``."""
    base = base_activation(phi.base).function(x)
    return base_weight.unsqueeze(1) * base + bspline.evaluate(x, coef, phi.spline_order, phi.grid_range)


def _terms(phi: Phi, x: Tensor) -> Tensor:
    """b and all B_m of x ``(N,)`` → ``(M + 1, N)``."""
    return torch.cat([base_activation(phi.base).function(x).unsqueeze(0), bspline.basis(x, *phi.grid).T])


def _pieces(phi: Phi, curves: Curves, weight: Tensor, step: float) -> Table | None:
    """Chords from knot to knot, at both ends the lines of the base times ``weight`` ``(A,)``; None for too many of them."""
    lo, hi = phi.grid_range
    base, beyond = base_activation(phi.base), phi.spline_order * (hi - lo) / phi.grid_size
    below, above = (math.ceil(max(base.curved, end + beyond) / step) + 1 for end in (-lo, hi))
    if (below + above) * len(weight) > LARGEST:
        return None
    u = torch.arange(-below, above + 1, dtype=torch.float64)
    at = curves(u * step)
    slope = at.diff(dim=1)
    slope[:, -1], slope[:, 0] = (weight * (line * step) for line in base.slopes)
    start = u[:-1] + below
    value = at[:, :-1] - slope * start
    value[:, 0] = at[:, 1] - slope[:, 0]  # it goes on without end where it starts
    errors = [(curves((u[:-1] + t) * step) - (value + slope * (start + t))).abs().max() for t in _BETWEEN]
    return Table(step, below, value.float(), slope.float(), float(max(errors)))
