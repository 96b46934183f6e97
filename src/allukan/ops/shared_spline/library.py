"""The fast shared spline as two operators of ``torch.library``: seen whole by autograd, compile, export and functorch.

Each saves its inputs only. The backward operator has no derivative of its own and says so.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from allukan.ops.shared_spline.engines import ENGINES


def _output_like(x: Tensor, per_group: int, blocks: int) -> Tensor:
    if blocks == per_group == 1:
        return torch.empty_like(x)
    return x.new_empty(x.shape[0], per_group * x.shape[1], *x.shape[2:])


def _memory_order(x: Tensor) -> list[int] | None:
    """The permutation that makes a dense tensor contiguous (channels-last, say), or None when it is not dense."""
    order = sorted(range(x.ndim), key=lambda d: (x.stride(d), x.shape[d] == 1), reverse=True)
    return order if x.permute(order).is_contiguous() else None


def _as_blocks(x: Tensor, blocks: int) -> Tensor:
    """``(B, J·C, *S)`` → ``(B, J, N)``, a view for a contiguous tensor."""
    return x.reshape(x.shape[0], blocks, -1)


def _elementwise(x: Tensor) -> Tensor:
    """Any tensor as ``(1, 1, N)`` in the order of its memory, a view for a dense one."""
    order = _memory_order(x)
    return (x if order is None else x.permute(order)).reshape(1, 1, -1)


def _restore(flat: Tensor, like: Tensor) -> Tensor:
    order = _memory_order(like)
    if order is None:
        return flat.view(like.shape)
    back = sorted(range(like.ndim), key=order.__getitem__)
    return flat.view([like.shape[d] for d in order]).permute(back)


@torch.library.custom_op("allukan::shared_spline", mutates_args=())
def shared_spline_op(
    x: Tensor,
    coef: Tensor,
    base_weight: Tensor,
    lo: float,
    hi: float,
    spline_order: int,
    base: str,
    exact: bool,
    blocks: int,
    impl: str,
) -> Tensor:
    """``ops.shared_spline`` with its arguments in a form that the dispatcher knows; coef ``(A, M)``."""
    c, w = coef.unflatten(0, (blocks, -1)), base_weight.unflatten(0, (blocks, -1))
    if x.numel() == 0:
        return _output_like(x, c.shape[1], blocks)
    if c.shape[:2] == (1, 1):
        out = ENGINES[impl].forward(_elementwise(x), c, w, (lo, hi), spline_order, base)
        return _restore(out, torch.empty_like(x))
    out = ENGINES[impl].forward(_as_blocks(x, blocks), c, w, (lo, hi), spline_order, base)
    return out.view(x.shape[0], -1, *x.shape[2:])


@shared_spline_op.register_fake
def _(x: Tensor, coef: Tensor, base_weight: Tensor, lo, hi, spline_order, base, exact, blocks, impl) -> Tensor:  # type: ignore[no-untyped-def]
    return _output_like(x, coef.shape[0] // blocks, blocks)


@torch.library.custom_op("allukan::shared_spline_backward", mutates_args=())
def shared_spline_backward_op(
    grad: Tensor,
    x: Tensor,
    coef: Tensor,
    base_weight: Tensor,
    lo: float,
    hi: float,
    spline_order: int,
    base: str,
    exact: bool,
    blocks: int,
    impl: str,
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients for x, coef and base_weight; recomputes everything from x."""
    c, w = coef.unflatten(0, (blocks, -1)), base_weight.unflatten(0, (blocks, -1))
    if x.numel() == 0:
        return torch.empty_like(x), torch.zeros_like(coef), torch.zeros_like(base_weight)
    if c.shape[:2] == (1, 1):
        order = _memory_order(x)
        g = (grad if order is None else grad.permute(order)).reshape(1, 1, 1, -1)
        flat_x = _elementwise(x)
    else:
        flat_x = _as_blocks(x, blocks)
        g = grad.reshape(x.shape[0], blocks, c.shape[1], -1)
    grad_x, grad_coef, grad_weight = ENGINES[impl].backward(g, flat_x, c, w, (lo, hi), spline_order, base, exact)
    grad_x = _restore(grad_x, torch.empty_like(x)) if c.shape[:2] == (1, 1) else grad_x.view(x.shape)
    return grad_x, grad_coef.flatten(0, 1), grad_weight.flatten(0, 1)


@shared_spline_backward_op.register_fake
def _(grad, x, coef, base_weight, lo, hi, spline_order, base, exact, blocks, impl):  # type: ignore[no-untyped-def]
    grad_x = torch.empty_like(x) if coef.shape[0] == 1 else x.new_empty(x.shape)
    return grad_x, torch.empty_like(coef), torch.empty_like(base_weight)


def _setup(ctx: Any, inputs: tuple, output: Tensor) -> None:
    ctx.save_for_backward(*inputs[:3])
    ctx.options = inputs[3:]


def _differentiate(ctx: Any, grad: Tensor) -> tuple:
    x, coef, base_weight = ctx.saved_tensors
    return (*shared_spline_backward_op(grad, x, coef, base_weight, *ctx.options), *([None] * len(ctx.options)))


def _refuse(ctx: Any, *grads: Tensor) -> tuple:
    raise RuntimeError("shared_spline is differentiable once; use impl='reference' where a second derivative is needed")


shared_spline_op.register_autograd(_differentiate, setup_context=_setup)
shared_spline_backward_op.register_autograd(_refuse)


@shared_spline_op.register_vmap
def _(info: Any, in_dims: tuple, x: Tensor, coef: Tensor, base_weight: Tensor, *options: Any) -> tuple[Tensor, int]:
    """Samples fold into the batch; ensembles of coefficients are looped over."""
    tensors = (x, coef, base_weight)
    if in_dims[1] is None and in_dims[2] is None:
        moved = x.movedim(in_dims[0], 0)
        flat = moved.flatten(0, 1) if moved.ndim > 1 else moved
        out = shared_spline_op(flat, coef, base_weight, *options)
        return out.unflatten(0, moved.shape[:2]) if moved.ndim > 1 else out, 0
    return torch.stack([shared_spline_op(*_pick(tensors, in_dims, i), *options) for i in range(info.batch_size)]), 0


@shared_spline_backward_op.register_vmap
def _(info: Any, in_dims: tuple, *args: Any) -> tuple[tuple[Tensor, ...], tuple[int, ...]]:
    tensors, options = args[:4], args[4:]
    each = [shared_spline_backward_op(*_pick(tensors, in_dims, i), *options) for i in range(info.batch_size)]
    return tuple(torch.stack(parts) for parts in zip(*each, strict=True)), (0, 0, 0)


def _pick(tensors: tuple, dims: tuple, i: int) -> list[Tensor]:
    return [t if d is None else t.select(d, i) for t, d in zip(tensors, dims, strict=False)]
