"""From tensors of any layout to the ``(B, J, N)`` that the engines work on, and back."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import wraps
from typing import Any, NamedTuple, ParamSpec, TypeVar

import torch
from torch import Tensor

from allukan.ops.shared_spline.engines import CHANNELS_LAST, ENGINES
from allukan.ops.tracing import watched

P = ParamSpec("P")
T = TypeVar("T")


class Options(NamedTuple):
    """Everything but tensors, in a form that the dispatcher knows."""

    lo: float
    hi: float
    spline_order: int
    basis: str
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
    """``compute``, as an operator of ``torch.library`` where somebody looks on (``watched``)."""
    if watched(x, coef, base_weight):
        return torch.ops.allukan.shared_spline(x, coef, base_weight, *options)
    return compute(x, coef, base_weight, *options)


def backward(grad: Tensor, x: Tensor, coef: Tensor, base_weight: Tensor, *options: Any) -> tuple[Tensor, Tensor, Tensor]:
    """``differentiate`` likewise."""
    if watched(grad, x, coef, base_weight):
        return torch.ops.allukan.shared_spline_backward(grad, x, coef, base_weight, *options)
    return differentiate(grad, x, coef, base_weight, *options)


def compute(x: Tensor, coef: Tensor, base_weight: Tensor, *options: Any) -> Tensor:
    """x ``(B, C, *S)``, coef ``(A, M)``, base_weight ``(A,)`` → ``(B, A·C/J, *S)``; x's own layout when A is 1."""
    engine = ENGINES[options[-1]]
    if hasattr(engine, "takes") and engine.takes(x, coef, base_weight) and x.numel():
        return engine.forward_whole(x, coef, base_weight, *options[:-1])
    return _forward(x, coef, base_weight, *options)


@without_autocast
def _forward(x: Tensor, coef: Tensor, base_weight: Tensor, *options: Any) -> Tensor:
    o = Options(*options)
    if x.numel() == 0:
        return output_like(x, coef, o.blocks, o.engine)
    c, w = coef.unflatten(0, (o.blocks, -1)), base_weight.unflatten(0, (o.blocks, -1))
    run = ENGINES[o.engine].forward
    if len(coef) == 1:
        return _restore(run(_elementwise(x), c, w, (o.lo, o.hi), o.spline_order, o.basis, o.base), x)
    last = _channels_last(x, o.blocks, o.engine)
    return _join(run(_runs(x, last, o.blocks), c, w, (o.lo, o.hi), o.spline_order, o.basis, o.base), x, last)


def differentiate(grad: Tensor, x: Tensor, coef: Tensor, base_weight: Tensor, *options: Any) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of ``compute`` for x, coef and base_weight; recomputes everything from x."""
    engine = ENGINES[options[-1]]
    if hasattr(engine, "takes") and engine.takes(x, coef, base_weight) and x.numel():
        return engine.backward_whole(grad, x, coef, base_weight, *options[:-1])
    return _backward(grad, x, coef, base_weight, *options)


@without_autocast
def _backward(grad: Tensor, x: Tensor, coef: Tensor, base_weight: Tensor, *options: Any) -> tuple[Tensor, Tensor, Tensor]:
    o = Options(*options)
    if x.numel() == 0:
        return gradient_like(x, coef, o.blocks, o.engine), torch.zeros_like(coef), torch.zeros_like(base_weight)
    c, w = coef.unflatten(0, (o.blocks, -1)), base_weight.unflatten(0, (o.blocks, -1))
    run = ENGINES[o.engine].backward
    if len(coef) == 1:
        order = _memory_order(x)
        g = (grad if order is None else grad.permute(order)).reshape(1, 1, 1, -1)
        flat, *others = run(g, _elementwise(x), c, w, (o.lo, o.hi), o.spline_order, o.basis, o.base, o.exact)
        grad_x = _restore(flat, x)
    else:
        last = _channels_last(x, o.blocks, o.engine)
        g = _runs(grad, last, o.blocks, c.shape[1])
        runs, *others = run(g, _runs(x, last, o.blocks), c, w, (o.lo, o.hi), o.spline_order, o.basis, o.base, o.exact)
        grad_x = _join(runs, x, last)
    return grad_x, others[0].flatten(0, 1), others[1].flatten(0, 1)


def output_like(x: Tensor, coef: Tensor, blocks: int, engine: str = "eager") -> Tensor:
    """An uninitialised output of ``compute``."""
    return _empty(x, coef, blocks, engine, len(coef) // blocks)


def gradient_like(x: Tensor, coef: Tensor, blocks: int, engine: str = "eager") -> Tensor:
    """An uninitialised gradient of x, as ``differentiate`` returns it."""
    return _empty(x, coef, blocks, engine, 1)


def _empty(x: Tensor, coef: Tensor, blocks: int, engine: str, times: int) -> Tensor:
    if len(coef) == 1:
        return torch.empty_like(x)
    if _channels_last(x, blocks, engine):
        return x.new_empty(x.shape[0], *x.shape[2:], times * x.shape[1]).movedim(-1, 1)
    return x.new_empty(x.shape[0], times * x.shape[1], *x.shape[2:])


def _channels_last(x: Tensor, blocks: int, engine: str) -> bool:
    """Whether x lies channels-last and is computed so: where its runs of channels fill the 32 bytes that a GPU reads at once."""
    able = engine in CHANNELS_LAST and (blocks == 1 or x.shape[1] * x.itemsize >= 32 * blocks)
    return able and not x.is_contiguous() and x.movedim(1, -1).is_contiguous()


def _runs(t: Tensor, last: bool, *split: int) -> Tensor:
    """``(B, C, *S)`` as ``(B, *split, N)``; channels-last memory is ``(B·S, *split, N)``, a pixel after the other."""
    return t.movedim(1, -1).reshape(-1, *split, t.shape[1] // math.prod(split)) if last else t.reshape(t.shape[0], *split, -1)


def _join(runs: Tensor, like: Tensor, last: bool) -> Tensor:
    """The inverse of ``_runs``: ``(B, C, *S)`` with as many channels as there are."""
    batch, *space = like.shape[0], *like.shape[2:]
    return runs.view(batch, *space, -1).movedim(-1, 1) if last else runs.view(batch, -1, *space)


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
