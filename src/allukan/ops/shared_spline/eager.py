"""Closed-form forward and backward in plain torch, one cache-sized block of the feature map at a time.

For B-splines, that is; other families of basis functions go on to ``dense``. On a uniform grid ``u = (x - lo)/h``, ``i =
floor(u)``, ``t = u - i``: φ is a polynomial in t whose coefficients sit in row i of a small table. Forward is a table look-up
and Horner's rule; backward looks the same row up again, so only x is saved. The coefficient gradient first sums g·t^p per
interval and block (partial sums, no atomics) and then maps these few numbers back through the table.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from allukan.ops import bspline
from allukan.ops.bases import base_derivative, base_function
from allukan.ops.shared_spline import dense
from allukan.ops.shared_spline.blocks import blocks
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


def locate(x: Tensor, grid_size: int, spline_order: int, grid_range: bspline.GridRange) -> tuple[Tensor, Tensor]:
    """Row of the piece table (int64) and position t in ``[0, 1)`` of every x; NaN goes to row 0 with t = NaN."""
    lo, hi = grid_range
    last = grid_size + 2 * spline_order + 1
    u = (x - lo) * (grid_size / (hi - lo)) + (spline_order + 1)
    row = u.clamp_(0.0, last + 0.5).floor()  # both floats: the ONNX exporter knows no clamp of one of each
    t = u.sub_(row)
    return row.nan_to_num_(0.0).to(torch.int64), t


def horner(table: Tensor, row: Tensor, t: Tensor) -> Tensor:
    """Σ_p table[row, p] t^p, elementwise; table ``(rows, k + 1)``."""
    out = table[:, -1][row]
    for p in range(sizes(table)[1] - 2, -1, -1):
        out = out.mul_(t).add_(table[:, p][row])
    return out


def _offsets(groups: int, rows: int, device: torch.device) -> Tensor:
    return (torch.arange(groups, device=device) * rows).view(1, groups, 1)


def forward(
    x: Tensor,
    coef: Tensor,
    base_weight: Tensor,
    grid_range: bspline.GridRange,
    spline_order: int,
    basis: str,
    base: str,
) -> Tensor:
    """x ``(B, J, N)``, coef ``(J, R, M)``, base_weight ``(J, R)`` → ``(B, J, R, N)``; float32 arithmetic, float64 for float64."""
    if basis != "bspline":
        return dense.forward(x, coef, base_weight, grid_range, spline_order, basis, base)
    dtype = torch.promote_types(x.dtype, torch.float32)
    (batch, groups, length), per_group = x.shape, coef.shape[1]
    table = piece_table(coef.to(dtype), spline_order)
    offsets = _offsets(groups, table.shape[2], x.device)
    flat = table.transpose(0, 1).flatten(1, 2)  # (R, J·rows, k+1)
    weight = base_weight.to(dtype).view(groups, per_group, 1)
    out = x.new_empty(batch, groups, per_group, length)
    for rows, columns in blocks(batch, groups, length):
        block = x[rows, :, columns].to(dtype)
        row, t = locate(block, coef.shape[2] - spline_order, spline_order, grid_range)
        row = row + offsets if groups > 1 else row
        activated = base_function(base)(block)
        for r in range(per_group):
            out[rows, :, r, columns] = horner(flat[r], row, t).addcmul_(activated, weight[:, r])
    return out


def backward(
    grad: Tensor,
    x: Tensor,
    coef: Tensor,
    base_weight: Tensor,
    grid_range: bspline.GridRange,
    spline_order: int,
    basis: str,
    base: str,
    exact: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of ``forward`` for x, coef and base_weight, from grad ``(B, J, R, N)`` and the inputs alone."""
    if basis != "bspline":
        return dense.backward(grad, x, coef, base_weight, grid_range, spline_order, basis, base, exact)
    dtype = torch.promote_types(x.dtype, torch.float32)
    (batch, groups, length), per_group = x.shape, coef.shape[1]
    grid_size, k = coef.shape[2] - spline_order, spline_order
    table = piece_table(coef.to(dtype), k)
    n_rows = table.shape[2]
    offsets = _offsets(groups, n_rows, x.device)
    lo, hi = grid_range
    slopes = table[..., 1:] * torch.arange(1, k + 1, dtype=dtype, device=x.device) * (grid_size / (hi - lo))
    flat = slopes.transpose(0, 1).flatten(1, 2)
    weight = base_weight.to(dtype).view(groups, per_group, 1)
    grad_x = torch.empty_like(x, memory_format=torch.contiguous_format)
    grad_table = torch.zeros(per_group, k + 1, groups * n_rows, dtype=torch.float64, device=x.device)
    grad_weight = torch.zeros(groups, per_group, dtype=torch.float64, device=x.device)
    for rows, columns in blocks(batch, groups, length):
        block = x[rows, :, columns].to(dtype)
        row, t = locate(block, grid_size, k, grid_range)
        row = row + offsets if groups > 1 else row
        activated, slope = base_function(base)(block), base_derivative(base)(block)
        total = torch.zeros_like(block)
        for r in range(per_group):
            g = grad[rows, :, r, columns].to(dtype)
            total += g * (slope * weight[:, r] + (horner(flat[r], row, t) if exact else 0))
            grad_weight[:, r] += (g * activated).sum(dim=(0, 2))
            grad_table[r] += _moments(row.flatten(), t.flatten(), g.flatten(), groups * n_rows, k)
        grad_x[rows, :, columns] = total
    per_piece = grad_table.unflatten(2, (groups, n_rows)).permute(2, 0, 3, 1)
    return grad_x, fold_table_gradient(per_piece, k).to(coef.dtype), grad_weight.to(base_weight.dtype)


def _moments(row: Tensor, t: Tensor, g: Tensor, rows: int, order: int) -> Tensor:
    """Σ g·t^p of every table row, ``(order + 1, rows)``: the partial sums of one block."""
    sums = []
    for _ in range(order + 1):
        sums.append(torch.bincount(row, weights=g, minlength=rows))
        g = g * t
    return torch.stack(sums)
