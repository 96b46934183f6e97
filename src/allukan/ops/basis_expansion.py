"""The expanded form for many activations: every channel becomes its M + 1 basis channels, then ONE convolution follows."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from allukan.ops import bspline
from allukan.ops.bases import base_derivative, base_function
from allukan.ops.shared_spline.eager import locate


def basis_expansion(
    x: Tensor,
    grid_size: int,
    spline_order: int,
    grid_range: bspline.GridRange,
    *,
    base: str = "silu",
    input_grad: str = "exact",
) -> Tensor:
    """``(B, C, *S)`` → ``(B, C·(M + 1), *S)``: for each channel b(x), then B_0(x) … B_{M-1}(x). Saves only x.

    ``input_grad`` as in ``shared_spline``; ``"free"`` lets no gradient through the basis functions. Raises ``ValueError`` for
    options that are not usable.

    >>> basis_expansion(torch.zeros(1, 2, 4), 5, 3, (-1.0, 1.0)).shape
    torch.Size([1, 18, 4])
    """
    bspline.check_grid(grid_size, spline_order, grid_range)
    base_function(base)
    lo, hi = grid_range
    return _expand(x, lo, hi, grid_size, spline_order, base, input_grad == "exact").flatten(1, 2)


def _local(x: Tensor, grid: tuple[int, int, float, float], derivative: bool) -> Tensor:
    """Basis values or slopes ``(B, C, M, *S)``: only the k + 1 that differ from zero are computed, then scattered."""
    grid_size, k, lo, hi = grid
    row, t = locate(x, grid_size, k, (lo, hi))
    pieces = bspline.pieces(k, x.dtype, x.device)
    if derivative:
        pieces = pieces[:, 1:] * torch.arange(1, k + 1, dtype=x.dtype, device=x.device) * (grid_size / (hi - lo))
    out = x.new_zeros(*x.shape[:2], grid_size + 3 * k + 2, *x.shape[2:])
    for j in range(k + 1):
        value = torch.zeros_like(t)
        for p in range(pieces.shape[1] - 1, -1, -1):
            value = value.mul_(t).add_(pieces[j, p])
        out.scatter_(2, (row + j).unsqueeze(2), value.unsqueeze(2))
    return out.narrow(2, k + 1, grid_size + k) + (0.0 * t).unsqueeze(2)  # 0·t carries NaN on


@torch.library.custom_op("allukan::basis_expansion", mutates_args=())
def _expand(x: Tensor, lo: float, hi: float, grid_size: int, spline_order: int, base: str, exact: bool) -> Tensor:
    wide = x.to(torch.promote_types(x.dtype, torch.float32))
    values = _local(wide, (grid_size, spline_order, lo, hi), derivative=False)
    return torch.cat([base_function(base)(wide).unsqueeze(2), values], dim=2).to(x.dtype)


@_expand.register_fake
def _(x: Tensor, lo: float, hi: float, grid_size: int, spline_order: int, base: str, exact: bool) -> Tensor:
    return x.new_empty(*x.shape[:2], grid_size + spline_order + 1, *x.shape[2:])


@torch.library.custom_op("allukan::basis_expansion_backward", mutates_args=())
def _expand_backward(
    grad: Tensor, x: Tensor, lo: float, hi: float, grid_size: int, spline_order: int, base: str, exact: bool
) -> Tensor:
    wide = x.to(torch.promote_types(x.dtype, torch.float32))
    out = grad[:, :, 0] * base_derivative(base)(wide)
    if exact:
        out = out + (grad[:, :, 1:] * _local(wide, (grid_size, spline_order, lo, hi), derivative=True)).sum(2)
    return out.to(x.dtype)


@_expand_backward.register_fake
def _(grad: Tensor, x: Tensor, lo: float, hi: float, grid_size: int, spline_order: int, base: str, exact: bool) -> Tensor:
    return torch.empty_like(x)


def _setup(ctx: Any, inputs: tuple, output: Tensor) -> None:
    ctx.save_for_backward(inputs[0])
    ctx.options = inputs[1:]


def _differentiate(ctx: Any, grad: Tensor) -> tuple:
    return (_expand_backward(grad, ctx.saved_tensors[0], *ctx.options), *([None] * len(ctx.options)))


def _refuse(ctx: Any, *grads: Tensor) -> tuple:
    raise RuntimeError("basis_expansion is differentiable once")


_expand.register_autograd(_differentiate, setup_context=_setup)
_expand_backward.register_autograd(_refuse)
