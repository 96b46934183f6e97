"""The expanded form for many activations: every channel becomes its M + 1 basis channels, then ONE convolution follows."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from allukan.ops import bspline
from allukan.ops.autograd import transformable
from allukan.ops.bases import base_derivative, base_function
from allukan.ops.basis import family
from allukan.ops.shared_spline.aten import basis_expansion_aten
from allukan.ops.shared_spline.dispatch import INPUT_GRADS, choose
from allukan.ops.shared_spline.eager import locate
from allukan.ops.shared_spline.engines import ENGINES
from allukan.ops.shared_spline.layout import without_autocast
from allukan.ops.subclasses import through_subclasses
from allukan.ops.tracing import transforms, watched

ONCE = "basis_expansion is differentiable once"


@through_subclasses
def basis_expansion(
    x: Tensor,
    grid_size: int,
    spline_order: int,
    grid_range: bspline.GridRange,
    *,
    basis: str = "bspline",
    base: str = "silu",
    input_grad: str = "exact",
    impl: str = "auto",
) -> Tensor:
    """``(B, C, *S)`` → ``(B, C·(M + 1), *S)``: for each channel b(x), then B_0(x) … B_{M-1}(x). Saves only x.

    ``input_grad`` as in ``shared_spline``; ``"free"`` lets no gradient through the basis functions. ``impl`` as there, but for
    "triton", which has no such kernel. Raises ``ValueError`` for unusable options.

    >>> basis_expansion(torch.zeros(1, 2, 4), 5, 3, (-1.0, 1.0)).shape
    torch.Size([1, 18, 4])
    """
    bspline.check_grid(grid_size, spline_order, grid_range)
    base_function(base)
    family(basis)
    if input_grad not in INPUT_GRADS:
        raise ValueError(f"unknown input_grad {input_grad!r}; choose one of {', '.join(INPUT_GRADS)}")
    if x.ndim < 2 or not x.is_floating_point():
        raise ValueError(f"x must be (B, C, *S) and floating point, got {tuple(x.shape)} of {x.dtype}")
    engine = chosen(impl, x, grid_size, spline_order, grid_range, basis, base)
    if engine in COMPOSED:
        return COMPOSED[engine](x, grid_size, spline_order, grid_range, basis, base, input_grad).flatten(1, 2)
    lo, hi = grid_range
    call = transformable_expansion if transforms() else expand_op
    return call(x, lo, hi, grid_size, spline_order, basis, base, input_grad == "exact", impl).flatten(1, 2)


def chosen(impl: str, x: Tensor, grid_size: int, spline_order: int, grid_range: bspline.GridRange, basis: str, base: str) -> str:
    """The engine that expands x; ``ValueError``, with the reason, for one asked for by name that cannot."""
    if impl == "triton":
        raise ValueError(
            "impl='triton' has no kernel for the expanded basis (sharing 'output' and 'edge'): choose 'auto' or 'eager'"
        )
    return choose(impl, x.device.type, x.dtype, grid_size, spline_order, grid_range, basis, base)


def basis_expansion_reference(
    x: Tensor, grid_size: int, spline_order: int, grid_range: bspline.GridRange, basis: str, base: str, input_grad: str
) -> Tensor:
    """The specification: x ``(B, C, *S)`` → ``(B, C, M + 1, *S)``, the basis as defined, by autograd."""
    wide = x.to(torch.promote_types(x.dtype, torch.float32))
    seen = wide if input_grad == "exact" else wide.detach()
    values = family(basis).values(seen, grid_size, spline_order, grid_range).movedim(-1, 2)
    return torch.cat([base_function(base)(wide).unsqueeze(2), values], dim=2).to(x.dtype)


COMPOSED = {"reference": basis_expansion_reference, "aten": basis_expansion_aten}  # of differentiable operators


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


def _evaluate(x: Tensor, grid: tuple[int, int, float, float], basis: str, derivative: bool) -> Tensor:
    """The same for any family."""
    if basis == "bspline":
        return _local(x, grid, derivative)
    functions, (grid_size, k, lo, hi) = family(basis), grid
    return (functions.derivative if derivative else functions.values)(x, grid_size, k, (lo, hi)).movedim(-1, 2)


def expand(x: Tensor, *options: Any) -> Tensor:
    """``compute``, as an operator of ``torch.library`` where somebody looks on (``watched``)."""
    return expand_op(x, *options) if watched(x) else compute(x, *options)


def expand_backward(grad: Tensor, x: Tensor, *options: Any) -> Tensor:
    """``differentiate`` likewise."""
    return expand_backward_op(grad, x, *options) if watched(grad, x) else differentiate(grad, x, *options)


@without_autocast
def compute(
    x: Tensor,
    lo: float,
    hi: float,
    grid_size: int,
    spline_order: int,
    basis: str,
    base: str,
    exact: bool,
    impl: str = "auto",
) -> Tensor:
    """``(B, C, *S)`` → ``(B, C, M + 1, *S)``; ``exact`` concerns the gradient only."""
    if chosen(impl, x, grid_size, spline_order, (lo, hi), basis, base) == "native" and x.numel():
        flat = x.reshape(x.shape[0] * x.shape[1], -1)
        values = ENGINES["native"].expand(flat, grid_size, (lo, hi), spline_order, basis, base)
        return values.view(*x.shape[:2], -1, *x.shape[2:])
    wide = x.to(torch.promote_types(x.dtype, torch.float32))
    values = _evaluate(wide, (grid_size, spline_order, lo, hi), basis, derivative=False)
    return torch.cat([base_function(base)(wide).unsqueeze(2), values], dim=2).to(x.dtype)


@without_autocast
def differentiate(
    grad: Tensor,
    x: Tensor,
    lo: float,
    hi: float,
    grid_size: int,
    spline_order: int,
    basis: str,
    base: str,
    exact: bool,
    impl: str = "auto",
) -> Tensor:
    """Gradient of ``compute`` for x, from grad ``(B, C, M + 1, *S)``."""
    if chosen(impl, x, grid_size, spline_order, (lo, hi), basis, base) == "native" and x.numel():
        flat, g = x.reshape(x.shape[0] * x.shape[1], -1), grad.reshape(x.shape[0] * x.shape[1], grad.shape[2], -1)
        return ENGINES["native"].expand_backward(g, flat, grid_size, (lo, hi), spline_order, basis, base, exact).view(x.shape)
    wide = x.to(torch.promote_types(x.dtype, torch.float32))
    out = base_derivative(base)(wide) * grad[:, :, 0]  # x first: its memory format is that of the result
    if exact:
        out = out + (grad[:, :, 1:] * _evaluate(wide, (grid_size, spline_order, lo, hi), basis, derivative=True)).sum(2)
    return out.to(x.dtype)


@without_autocast
def base_backward(grad: Tensor, x: Tensor, base: str) -> Tensor:
    """Gradient for x of the base alone, b(x), from grad of its shape."""
    wide = x.to(torch.promote_types(x.dtype, torch.float32))
    return (base_derivative(base)(wide) * grad).to(x.dtype)


expand_op = torch.library.custom_op("allukan::basis_expansion", compute, mutates_args=())
expand_backward_op = torch.library.custom_op("allukan::basis_expansion_backward", differentiate, mutates_args=())


@expand_op.register_fake
def _(x: Tensor, lo: float, hi: float, grid_size: int, spline_order: int, *options: Any) -> Tensor:
    return x.new_empty(*x.shape[:2], grid_size + spline_order + 1, *x.shape[2:])


@expand_backward_op.register_fake
def _(grad: Tensor, x: Tensor, *options: Any) -> Tensor:
    return torch.empty_like(x)


def _setup(ctx: Any, inputs: tuple, output: Tensor) -> None:
    ctx.save_for_backward(inputs[0])
    ctx.options = inputs[1:]


def _differentiate(ctx: Any, grad: Tensor) -> tuple:
    return (expand_backward_op(grad, ctx.saved_tensors[0], *ctx.options), *([None] * len(ctx.options)))


def _refuse(ctx: Any, *grads: Tensor) -> tuple:
    raise RuntimeError(ONCE)


expand_op.register_autograd(_differentiate, setup_context=_setup)
expand_backward_op.register_autograd(_refuse)


transformable_expansion = transformable(expand, expand_backward, 1, ONCE)
