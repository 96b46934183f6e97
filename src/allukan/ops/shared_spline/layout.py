"""From tensors of any layout to the ``(B, J, N)`` that the engines work on, and back."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, NamedTuple, ParamSpec, TypeVar

import torch
from torch import Tensor

from allukan.ops.shared_spline.engines import ENGINES

P = ParamSpec("P")
T = TypeVar("T")


class Options(NamedTuple):
    """Everything but tensors, in a form that the dispatcher knows."""

    lo: float
    hi: float
    spline_order: int
    base: str
    exact: bool
    blocks: int
    engine: str


def without_autocast(function: Callable[P, T]) -> Callable[P, T]:
    """The spline is computed in float32 even where matrix products are not."""

    @wraps(function)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> T:
        device = next(a for a in args if isinstance(a, Tensor)).device.type
        if device == "meta" or not torch.is_autocast_enabled(device):  # "meta" knows no autocast
            return function(*args, **kwargs)
        with torch.autocast(device, enabled=False):
            return function(*args, **kwargs)

    return wrapped


def forward(x: Tensor, coef: Tensor, base_weight: Tensor, *options: Any) -> Tensor:
    """x ``(B, C, *S)``, coef ``(A, M)``, base_weight ``(A,)`` → ``(B, A·C/J, *S)``; x's own layout when A is 1."""
    engine = ENGINES[options[-1]]
    if hasattr(engine, "takes") and engine.takes(x, coef, base_weight) and x.numel():
        return engine.forward_whole(x, coef, base_weight, *options[:-1])
    return _forward(x, coef, base_weight, *options)


@without_autocast
def _forward(x: Tensor, coef: Tensor, base_weight: Tensor, *options: Any) -> Tensor:
    o = Options(*options)
    if x.numel() == 0:
        return output_like(x, coef, o.blocks)
    c, w = coef.unflatten(0, (o.blocks, -1)), base_weight.unflatten(0, (o.blocks, -1))
    run = ENGINES[o.engine].forward
    if len(coef) == 1:
        return _restore(run(_elementwise(x), c, w, (o.lo, o.hi), o.spline_order, o.base), x)
    out = run(x.reshape(x.shape[0], o.blocks, -1), c, w, (o.lo, o.hi), o.spline_order, o.base)
    return out.view(x.shape[0], -1, *x.shape[2:])


def backward(grad: Tensor, x: Tensor, coef: Tensor, base_weight: Tensor, *options: Any) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of ``forward`` for x, coef and base_weight; recomputes everything from x."""
    engine = ENGINES[options[-1]]
    if hasattr(engine, "takes") and engine.takes(grad, x, coef, base_weight) and x.numel():
        return engine.backward_whole(grad, x, coef, base_weight, *options[:-1])
    return _backward(grad, x, coef, base_weight, *options)


@without_autocast
def _backward(grad: Tensor, x: Tensor, coef: Tensor, base_weight: Tensor, *options: Any) -> tuple[Tensor, Tensor, Tensor]:
    o = Options(*options)
    if x.numel() == 0:
        return torch.empty_like(x), torch.zeros_like(coef), torch.zeros_like(base_weight)
    c, w = coef.unflatten(0, (o.blocks, -1)), base_weight.unflatten(0, (o.blocks, -1))
    run = ENGINES[o.engine].backward
    if len(coef) == 1:
        order = _memory_order(x)
        g = (grad if order is None else grad.permute(order)).reshape(1, 1, 1, -1)
        flat, *others = run(g, _elementwise(x), c, w, (o.lo, o.hi), o.spline_order, o.base, o.exact)
        grad_x = _restore(flat, x)
    else:
        g = grad.reshape(x.shape[0], o.blocks, c.shape[1], -1)
        rows = x.reshape(x.shape[0], o.blocks, -1)
        grad_x, *others = run(g, rows, c, w, (o.lo, o.hi), o.spline_order, o.base, o.exact)
        grad_x = grad_x.view(x.shape)
    return grad_x, others[0].flatten(0, 1), others[1].flatten(0, 1)


def output_like(x: Tensor, coef: Tensor, blocks: int) -> Tensor:
    """An uninitialised output of ``forward``."""
    if len(coef) == 1:
        return torch.empty_like(x)
    return x.new_empty(x.shape[0], len(coef) // blocks * x.shape[1], *x.shape[2:])


def _memory_order(x: Tensor) -> list[int] | None:
    """The permutation that makes a dense tensor contiguous (channels-last, say), or None when there is none to apply."""
    if x.is_contiguous():
        return None
    order = sorted(range(x.ndim), key=lambda d: (x.stride(d), x.shape[d] == 1), reverse=True)
    return order if x.permute(order).is_contiguous() else None


def _elementwise(x: Tensor) -> Tensor:
    """Any tensor as ``(1, 1, N)`` in the order of its memory, a view for a dense one."""
    order = _memory_order(x)
    return (x if order is None else x.permute(order)).reshape(1, 1, -1)


def _restore(flat: Tensor, like: Tensor) -> Tensor:
    """The inverse of ``_elementwise``, in the layout of ``like`` when that is dense."""
    order = _memory_order(like)
    if order is None:
        restored = flat.view(like.shape)
        return restored if like.is_contiguous() else torch.empty_like(like).copy_(restored)
    back = sorted(range(like.ndim), key=order.__getitem__)
    return flat.view([like.shape[d] for d in order]).permute(back)
