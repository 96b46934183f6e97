"""Closed-form forward and backward in plain torch on any device, one cache-sized chunk of the feature map at a time.

Only x is saved. A B-spline is a look-up and Horner's rule, backward the same row is looked up again, and the coefficient gradient
sums g·t^p per interval and chunk (partial sums, no atomics) before these few numbers go back through the table. The functions of
the other families are not zero at most places: all M values of a chunk exist together, in the backward pass their slopes as well.
"""

from __future__ import annotations

import torch
from torch import Tensor

from allukan.ops.activations import base_derivative, base_function
from allukan.ops.engines import layout
from allukan.ops.engines.chunks import chunks
from allukan.ops.engines.layout import Gradients, without_autocast
from allukan.ops.engines.pieces import fold_table_gradient, horner, local_basis, locate, moments, piece_table, slope_table
from allukan.ops.phi import Phi

CHANNELS_LAST = False
_ON_A_GPU = 1 << 22  # values and slopes at once: 16 MiB of float32 each, so that a launch is worth its while


def obstacle(phi: Phi, device: str, dtype: torch.dtype) -> str | None:
    """It runs everywhere."""
    return None


@without_autocast
def forward(x: Tensor, coef: Tensor, base_weight: Tensor, phi: Phi) -> Tensor:
    """φ(x), ``(B, C, *S)`` → ``(B, A·C/J, *S)``; float32 arithmetic, float64 for float64."""
    return layout.forward(_forward, x, coef, base_weight, phi)


@without_autocast
def backward(grad: Tensor, x: Tensor, coef: Tensor, base_weight: Tensor, phi: Phi) -> Gradients:
    """Gradients of ``forward`` for x, coef and base_weight, from the inputs alone."""
    return layout.backward(_backward, grad, x, coef, base_weight, phi)


@without_autocast
def expand(x: Tensor, phi: Phi) -> Tensor:
    """b(x) and all B_m(x), ``(B, C, *S)`` → ``(B, C, M + 1, *S)``."""
    wide = x.to(torch.promote_types(x.dtype, torch.float32))
    return torch.cat([base_function(phi.base)(wide).unsqueeze(2), _terms(wide, phi, derivative=False)], dim=2).to(x.dtype)


@without_autocast
def expand_backward(grad: Tensor, x: Tensor, phi: Phi) -> Tensor:
    """Gradient of ``expand`` for x, from grad ``(B, C, M + 1, *S)``."""
    wide = x.to(torch.promote_types(x.dtype, torch.float32))
    out = base_derivative(phi.base)(wide) * grad[:, :, 0]  # x first: its memory format is that of the result
    if phi.exact:
        out = out + (grad[:, :, 1:] * _terms(wide, phi, derivative=True)).sum(2)
    return out.to(x.dtype)


def _terms(x: Tensor, phi: Phi, derivative: bool) -> Tensor:
    if phi.basis == "bspline":
        return local_basis(x, phi, derivative)
    return (phi.slopes if derivative else phi.values)(x).movedim(-1, 2)


class _Pieces:
    """The B-splines of ``coef`` ``(J, R, M)`` at one chunk ``(B, J, N)`` after the other."""

    def __init__(self, coef: Tensor, phi: Phi) -> None:
        self.phi, (self.blocks, each, _) = phi, coef.shape
        table = piece_table(coef, phi.spline_order)
        self.rows = table.shape[2]
        self.first = (torch.arange(self.blocks, device=coef.device) * self.rows).view(1, self.blocks, 1)
        self.table = table.transpose(0, 1).flatten(1, 2)  # (R, J·rows, k + 1)
        self.slopes = slope_table(self.table, phi)
        shape = (each, phi.spline_order + 1, self.blocks * self.rows)
        self.sums = torch.zeros(shape, dtype=torch.float64, device=coef.device)

    def meet(self, x: Tensor, slopes: bool) -> None:
        row, self.t = locate(x, self.phi)
        self.row = row + self.first if self.blocks > 1 else row

    def value(self, r: int) -> Tensor:
        return horner(self.table[r], self.row, self.t)

    def slope(self, r: int) -> Tensor:
        return horner(self.slopes[r], self.row, self.t)

    def collect(self, r: int, g: Tensor) -> None:
        rows, order = self.blocks * self.rows, self.phi.spline_order
        self.sums[r] += moments(self.row.flatten(), self.t.flatten(), g.flatten(), rows, order)

    def gradient(self) -> Tensor:
        per_piece = self.sums.unflatten(2, (self.blocks, self.rows)).permute(2, 0, 3, 1)
        return fold_table_gradient(per_piece, self.phi.spline_order)


class _Dense:
    """The same for any family of basis functions."""

    def __init__(self, coef: Tensor, phi: Phi) -> None:
        self.phi, self.coef = phi, coef.unsqueeze(2)  # (J, R, 1, M)
        self.sums = torch.zeros(coef.shape, dtype=torch.float64, device=coef.device)

    def meet(self, x: Tensor, slopes: bool) -> None:
        self.values, self.slopes = self.phi.values(x), self.phi.slopes(x) if slopes else None

    def value(self, r: int) -> Tensor:
        return (self.values * self.coef[:, r]).sum(-1)

    def slope(self, r: int) -> Tensor:
        assert self.slopes is not None
        return (self.slopes * self.coef[:, r]).sum(-1)

    def collect(self, r: int, g: Tensor) -> None:
        self.sums[:, r] += (g.unsqueeze(-1) * self.values).sum(dim=(0, 2))

    def gradient(self) -> Tensor:
        return self.sums


def _splines(x: Tensor, coef: Tensor, phi: Phi) -> tuple[_Pieces | _Dense, int, int]:
    """What evaluates the splines, and numbers that exist at once, an element and at least."""
    if phi.basis == "bspline":
        return _Pieces(coef, phi), 1, 0
    return _Dense(coef, phi), coef.shape[2], _ON_A_GPU * x.is_cuda


def _forward(x: Tensor, coef: Tensor, base_weight: Tensor, phi: Phi) -> Tensor:
    """x ``(B, J, N)``, coef ``(J, R, M)``, base_weight ``(J, R)`` → ``(B, J, R, N)``."""
    dtype = torch.promote_types(x.dtype, torch.float32)
    (batch, blocks, length), per_block = x.shape, coef.shape[1]
    splines, each, least = _splines(x, coef.to(dtype), phi)
    weight = base_weight.to(dtype).unsqueeze(2)  # (J, R, 1)
    out = x.new_empty(batch, blocks, per_block, length)
    for rows, columns in chunks(batch, blocks * each, length, least):
        chunk = x[rows, :, columns].to(dtype)
        splines.meet(chunk, slopes=False)
        activated = base_function(phi.base)(chunk)
        for r in range(per_block):
            out[rows, :, r, columns] = splines.value(r).addcmul_(activated, weight[:, r])
    return out


def _backward(grad: Tensor, x: Tensor, coef: Tensor, base_weight: Tensor, phi: Phi) -> Gradients:
    """Its gradients, from grad ``(B, J, R, N)``."""
    dtype = torch.promote_types(x.dtype, torch.float32)
    (batch, blocks, length), per_block = x.shape, coef.shape[1]
    splines, each, least = _splines(x, coef.to(dtype), phi)
    weight = base_weight.to(dtype).unsqueeze(2)
    grad_x = torch.empty_like(x, memory_format=torch.contiguous_format)
    grad_weight = torch.zeros(base_weight.shape, dtype=torch.float64, device=x.device)
    for rows, columns in chunks(batch, blocks * each, length, least):
        chunk = x[rows, :, columns].to(dtype)
        splines.meet(chunk, slopes=phi.exact)
        activated, base_slope = base_function(phi.base)(chunk), base_derivative(phi.base)(chunk)
        total = torch.zeros_like(chunk)
        for r in range(per_block):
            g = grad[rows, :, r, columns].to(dtype)
            total += g * (base_slope * weight[:, r] + (splines.slope(r) if phi.exact else 0))
            grad_weight[:, r] += (g * activated).sum(dim=(0, 2))
            splines.collect(r, g)
        grad_x[rows, :, columns] = total
    return grad_x, splines.gradient().to(coef.dtype), grad_weight.to(base_weight.dtype)
