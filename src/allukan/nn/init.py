"""Initialisation that keeps activations and gradients that have unit variance there, layer after layer."""

from __future__ import annotations

import functools
import math

import torch
from torch import Tensor

from allukan.nn.spline import Spline
from allukan.ops.activations import base_derivative, base_function
from allukan.ops.basis import family
from allukan.ops.tracing import unwatched


@functools.cache
@unwatched()
def flat(spline: Spline) -> tuple[float, ...]:
    """The M coefficients of the spline that is nearest to 1 on the grid: least squares, and of equals the smallest.

    All ones for B-splines, which sum to 1; the constant of the bases that have one in their span; for bells 1 up to a ripple.

    >>> [round(c, 9) for c in flat(Spline(grid_size=2, spline_order=2))]
    [1.0, 1.0, 1.0, 1.0]
    >>> [round(abs(c), 9) for c in flat(Spline(2, 2, basis="fourier"))]
    [1.0, 0.0, 0.0, 0.0]
    """
    lo, hi = spline.grid_range
    x = torch.linspace(lo, hi, 32 * spline.coefficients + 1, dtype=torch.float64, device="cpu")[:-1]  # at hi a B-spline is cut
    values = family(spline.basis).values(x, spline.grid_size, spline.spline_order, spline.grid_range)
    return tuple(torch.linalg.lstsq(values, torch.ones_like(x).unsqueeze(1), driver="gelsd").solution.flatten().tolist())


@functools.cache
@unwatched()
def unit_gain(spline: Spline) -> tuple[float, float]:
    """``(δ, E[φ²])`` for which φ(t) = b(t) + δ S(t) passes variance on unchanged, forward and backward, t ~ N(0, 1).

    A layer y_q = Σ_p λ_qp φ(x_p) with λ ~ N(0, 1/(n E[φ²])) has Var y = 1, and for equal widths multiplies the variance of
    the gradient by E[φ'²]/E[φ²]: for SiLU 1.07 a layer, 24 after 50. A constant δ on the grid changes E[φ²] and hardly φ', so
    it can make both moments equal: a quadratic in δ, with S the spline nearest to 1 (``flat``) and, for
    ``input_grad="free"``, without S' (the input does not see the spline). It has roots because Var b ≤ E[b'²] (Gaussian
    Poincaré inequality). Of the two we take the one that damps a deviation of the variance, which one layer multiplies by E[t
    φ φ']/E[φ²]: for SiLU 0.67; the other root gives 1.15, which 50 layers blow up a thousandfold.

    >>> delta, moment = unit_gain(Spline(base="tanh"))
    >>> round(abs(delta), 3), round(moment, 3)
    (0.265, 0.464)
    """
    t = torch.linspace(-8, 8, 4001, dtype=torch.float64, device="cpu")  # also where a model is built on the meta device
    density = torch.exp(-0.5 * t * t) / math.sqrt(2 * math.pi) * (t[1] - t[0])
    grid, functions = (spline.grid_size, spline.spline_order, spline.grid_range), family(spline.basis)
    coef = torch.tensor(flat(spline), dtype=torch.float64, device="cpu")
    s, ds = functions.values(t, *grid) @ coef, functions.derivative(t, *grid) @ coef
    b, db = base_function(spline.base)(t), base_derivative(spline.base)(t)
    seen = ds if spline.input_grad == "exact" else torch.zeros_like(ds)

    def mean(values: Tensor) -> float:
        return float((density * values).sum())

    def damping(delta: float) -> float:
        phi = b + delta * s
        return mean(t * phi * (db + delta * ds)) / mean(phi * phi)

    deltas = _roots(mean(s * s - seen * seen), 2 * mean(b * s - db * seen), mean(b * b - db * db))
    delta = min(deltas, key=damping)
    return delta, mean((b + delta * s) ** 2)


def _roots(a: float, b: float, c: float) -> tuple[float, ...]:
    """Real roots of a x² + b x + c; its extremum, the nearest miss, where there is none; 0 where the equation is void."""
    if abs(a) < 1e-3:
        return (-c / b,) if abs(b) > 1e-3 else (0.0,)
    root = math.sqrt(max(b * b - 4 * a * c, 0.0))
    return (-b + root) / (2 * a), (-b - root) / (2 * a)
