"""B-splines in closed form: on every interval of a uniform grid a polynomial in t, its coefficients a row of a small table."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from allukan.ops import bspline
from allukan.ops.phi import Phi
from allukan.ops.tracing import sizes


def piece_table(coef: Tensor, spline_order: int) -> Tensor:
    """Polynomial coefficients of every interval, coef ``(*A, M)`` → ``(*A, G + 2k + 2, k + 1)``; first and last row zero."""
    k = spline_order
    windows = F.pad(coef, (k + 1, k + 1)).unfold(-1, k + 1, 1)
    return windows @ bspline.pieces(k, coef.dtype, coef.device)


def fold_table_gradient(grad: Tensor, spline_order: int) -> Tensor:
    """Adjoint of ``piece_table``: ``(*A, G + 2k + 2, k + 1)`` → ``(*A, M)``."""
    k, rows = spline_order, grad.shape[-2]
    windows = grad @ bspline.pieces(k, grad.dtype, grad.device).T
    padded = grad.new_zeros(*grad.shape[:-2], rows + k)
    for j in range(k + 1):
        padded[..., j : j + rows] += windows[..., j]
    return padded[..., k + 1 : -(k + 1)]


def slope_table(table: Tensor, phi: Phi) -> Tensor:
    """Of the derivative by x: ``(*A, rows, k + 1)`` → ``(*A, rows, k)``."""
    lo, hi = phi.grid_range
    powers = torch.arange(1, phi.spline_order + 1, dtype=table.dtype, device=table.device)
    return table[..., 1:] * powers * (phi.grid_size / (hi - lo))


def _slopes(phi: Phi) -> list[list[float]]:
    """The same of ``bspline.polynomials``."""
    lo, hi = phi.grid_range
    scale = phi.grid_size / (hi - lo)
    return [[p * number * scale for p, number in enumerate(piece)][1:] for piece in bspline.polynomials(phi.spline_order)]


def locate(x: Tensor, phi: Phi) -> tuple[Tensor, Tensor]:
    """Row of the piece table (int64) and position t in ``[0, 1)`` of every x; NaN goes to row 0 with t = NaN."""
    lo, hi = phi.grid_range
    last = phi.grid_size + 2 * phi.spline_order + 1
    u = (x - lo) * (phi.grid_size / (hi - lo)) + (phi.spline_order + 1)
    row = u.clamp_(0.0, last + 0.5).floor()  # both floats: the ONNX exporter knows no clamp of one of each
    t = u.sub_(row)
    return row.nan_to_num_(0.0).to(torch.int64), t


def horner(table: Tensor, row: Tensor, t: Tensor) -> Tensor:
    """Σ_p table[row, p] t^p, elementwise; table ``(rows, k + 1)``."""
    out = table[:, -1][row]
    for p in range(sizes(table)[1] - 2, -1, -1):
        out = out.mul_(t).add_(table[:, p][row])
    return out


def moments(row: Tensor, t: Tensor, g: Tensor, rows: int, order: int) -> Tensor:
    """Σ g·t^p of every table row, ``(order + 1, rows)``."""
    sums = []
    for _ in range(order + 1):
        sums.append(torch.bincount(row, weights=g, minlength=rows))
        g = g * t
    return torch.stack(sums)


def local_basis(x: Tensor, phi: Phi, derivative: bool) -> Tensor:
    """Basis values or slopes ``(B, C, M, *S)``: only the k + 1 that differ from zero are computed, then scattered."""
    k = phi.spline_order
    row, t = locate(x, phi)
    out = x.new_zeros(*x.shape[:2], phi.grid_size + 3 * k + 2, *x.shape[2:])
    for j, piece in enumerate(_slopes(phi) if derivative else bspline.polynomials(k)):
        value = torch.zeros_like(t)
        for number in reversed(piece):  # no tensor, which a GPU would have to wait for
            value = value.mul_(t).add_(number)
        out.scatter_(2, (row + j).unsqueeze(2), value.unsqueeze(2))
    return out.narrow(2, k + 1, phi.coefficients) + (0.0 * t).unsqueeze(2)  # 0·t carries NaN on
