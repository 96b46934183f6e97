"""Uniform B-splines of any order: the readable reference that every fast path is tested against.

Notation (DESIGN section 2): ``G`` intervals of width ``h = (hi - lo) / G`` on ``grid_range = (lo, hi)``, order ``k``
(the polynomial degree, 3 = cubic), ``M = G + k`` basis functions on the knots ``lo + (j - k) h``, ``j = 0 … G + 2k``.
Inside the grid the basis sums to one. Outside it the same basis functions run out smoothly and are exactly zero
beyond ``k`` intervals, so a spline is finite everywhere; NaN stays NaN.

Source: C. de Boor, "A Practical Guide to Splines", chapter IX.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from allukan.ops.autograd import cached
from allukan.ops.tracing import jit_traced, untraced

GridRange = tuple[float, float]


def knots(
    grid_size: int,
    spline_order: int,
    grid_range: GridRange,
    dtype: torch.dtype = torch.float64,
    device: torch.device | None = None,
) -> Tensor:
    """Uniform knots that reach ``spline_order`` intervals beyond both ends, shape ``(G + 2k + 1,)``.

    >>> knots(2, 1, (0.0, 1.0)).tolist()
    [-0.5, 0.0, 0.5, 1.0, 1.5]
    """
    lo, hi = grid_range
    steps = torch.arange(-spline_order, grid_size + spline_order + 1, dtype=dtype, device=device)
    return lo + steps * ((hi - lo) / grid_size)


def basis(x: Tensor, grid_size: int, spline_order: int, grid_range: GridRange) -> Tensor:
    """All basis functions at x by the Cox–de Boor recursion: ``(*S)`` → ``(*S, M)``, differentiable in x.

    >>> basis(torch.tensor([0.0, 0.3], dtype=torch.float64), 5, 3, (-1.0, 1.0)).sum(-1).round(decimals=9)
    tensor([1., 1.], dtype=torch.float64)
    """
    t = knots(grid_size, spline_order, grid_range, x.dtype, x.device)
    (lo, hi), h = grid_range, (grid_range[1] - grid_range[0]) / grid_size
    x = x.unsqueeze(-1).clamp(lo - (spline_order + 1) * h, hi + (spline_order + 1) * h)  # beyond it all are 0, and inf · 0 is not
    b = ((x >= t[:-1]) & (x < t[1:])).to(x.dtype) + 0.0 * x.detach()  # 0·x carries NaN on; its slope is 0
    for k in range(1, spline_order + 1):
        left = (x - t[: -(k + 1)]) / (t[k:-1] - t[: -(k + 1)])
        right = (t[k + 1 :] - x) / (t[k + 1 :] - t[1:-k])
        b = left * b[..., :-1] + right * b[..., 1:]
    return b


def basis_derivative(x: Tensor, grid_size: int, spline_order: int, grid_range: GridRange) -> Tensor:
    """First derivatives of the basis in closed form, ``(*S)`` → ``(*S, M)``: the difference of two lower splines.

    >>> basis_derivative(torch.tensor([0.25]), 2, 1, (0.0, 1.0))
    tensor([[-2.,  2.,  0.]])
    """
    lo, hi = grid_range
    h = (hi - lo) / grid_size
    lower = basis(x, grid_size + 2, spline_order - 1, (lo - h, hi + h))  # the same knots, one order down
    return (lower[..., :-1] - lower[..., 1:]) / h


@cached
def polynomials(spline_order: int) -> tuple[tuple[float, ...], ...]:
    """The numbers of ``pieces``, by exact rational recursion, once an order.

    >>> polynomials(1)
    ((1.0, -1.0), (0.0, 1.0))
    """
    pieces = [[1.0]]  # order 0: one piece, the constant 1
    for k in range(1, spline_order + 1):
        raised = [[0.0] * (k + 1) for _ in range(k + 1)]
        for j, piece in enumerate(pieces):  # piece j belongs to the basis function that started k-1-j intervals ago
            age = k - 1 - j
            for power, value in enumerate(piece):
                raised[j + 1][power] += value * age / k
                raised[j + 1][power + 1] += value / k
                raised[j][power] += value * (k - age) / k
                raised[j][power + 1] -= value / k
        pieces = raised
    return tuple(tuple(piece) for piece in pieces)


def pieces(spline_order: int, dtype: torch.dtype = torch.float64, device: torch.device | None = None) -> Tensor:
    """The ``k + 1`` basis functions that live on one interval as polynomials in ``t ∈ [0, 1)``.

    Row ``j``, column ``p`` is the coefficient of ``t^p`` of basis function ``i + j`` on interval ``i``; shape ``(k+1, k+1)``.

    >>> pieces(1).tolist()
    [[1.0, -1.0], [0.0, 1.0]]
    """
    if jit_traced():
        with untraced():
            return torch.tensor(polynomials(spline_order), dtype=dtype, device=device)
    return torch.tensor(polynomials(spline_order), dtype=dtype, device=device)


def evaluate(x: Tensor, coef: Tensor, spline_order: int, grid_range: GridRange) -> Tensor:
    """The splines with coefficients ``(*A, M)`` at the points ``(N,)`` → ``(*A, N)``; reference, differentiable.

    >>> torch.allclose(evaluate(torch.tensor([0.1, 0.7]), torch.ones(8), 3, (-1.0, 1.0)), torch.ones(2))
    True
    """
    grid_size = coef.shape[-1] - spline_order
    return coef @ basis(x, grid_size, spline_order, grid_range).T


def fit(x: Tensor, y: Tensor, grid_size: int, spline_order: int, grid_range: GridRange) -> Tensor:
    """Least-squares coefficients ``(*A, M)`` of the splines through samples x ``(N,)``, y ``(*A, N)``.

    Solved in float64 and returned in y's dtype. Raises ``ValueError`` when the samples leave a coefficient undetermined.

    >>> x = torch.linspace(-1, 1, 50)
    >>> c = fit(x, x.square(), 5, 3, (-1.0, 1.0))
    >>> torch.allclose(evaluate(x, c, 3, (-1.0, 1.0)), x.square(), atol=1e-5)
    True
    """
    design = basis(x.double(), grid_size, spline_order, grid_range)
    solution = torch.linalg.lstsq(design, y.double().reshape(-1, x.numel()).T, driver="gelsd" if x.is_cpu else None)
    if x.is_cpu and int(solution.rank) < design.shape[1]:
        raise ValueError(f"{x.numel()} samples do not determine {design.shape[1]} coefficients: spread them over the grid")
    return solution.solution.T.reshape(*y.shape[:-1], design.shape[1]).to(y.dtype)


def refine(coef: Tensor, spline_order: int, grid_range: GridRange, factor: int) -> Tensor:
    """Coefficients on a grid ``factor`` times finer, ``(*A, G + k)`` → ``(*A, factor·G + k)``: the same function.

    The two spline spaces are nested for a whole-number factor, so on the grid the function stays what it was, up to
    rounding; outside it the run-out to zero gets shorter with the interval. Raises ``ValueError`` for ``factor < 1``.

    >>> c = torch.randn(8, dtype=torch.float64)
    >>> x = torch.linspace(-1, 1, 99, dtype=torch.float64)
    >>> a, b = evaluate(x, c, 3, (-1.0, 1.0)), evaluate(x, refine(c, 3, (-1.0, 1.0), 4), 3, (-1.0, 1.0))
    >>> torch.allclose(a, b)
    True
    """
    if factor < 1:
        raise ValueError(f"factor must be a whole number of at least 1, got {factor}")
    lo, hi = grid_range
    fine = (coef.shape[-1] - spline_order) * factor
    per_interval = spline_order + 2
    width = (hi - lo) / (fine * per_interval)
    x = lo + width * (torch.arange(fine * per_interval, dtype=torch.float64, device=coef.device) + 0.5)
    return fit(x, evaluate(x, coef.double(), spline_order, grid_range), fine, spline_order, grid_range).to(coef.dtype)


def check_grid(grid_size: int, spline_order: int, grid_range: GridRange) -> None:
    """Raise ``ValueError`` with one clear sentence unless the three describe a uniform B-spline.

    >>> check_grid(5, 3, (-1.0, 1.0))
    """
    if len(grid_range) != 2:
        raise ValueError(f"grid_range must be (lo, hi), got {grid_range}")
    lo, hi = grid_range
    if grid_size < 1:
        raise ValueError(f"grid_size must be at least 1, got {grid_size}")
    if spline_order < 1:
        raise ValueError(f"spline_order must be at least 1 (1 linear, 3 cubic), got {spline_order}")
    if not (math.isfinite(lo) and math.isfinite(hi) and lo < hi):
        raise ValueError(f"grid_range must be finite with lo < hi, got ({lo}, {hi})")
