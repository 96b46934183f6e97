"""From tensors of any layout to the ``(B, J, N)`` of engines that want it, and back.

J blocks of channels, R activations a block: x ``(B, J, N)``, coef ``(J, R, M)``, base_weight ``(J, R)``, φ(x) ``(B, J, R, N)``;
φ(x) and the gradient of x are contiguous.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

import torch
from torch import Tensor

from allukan.ops.normalise import Affine, channel_sums, normalised
from allukan.ops.phi import Phi

P = ParamSpec("P")
T = TypeVar("T")
Three = tuple[Tensor, Tensor, Tensor]  # gradients of φ's argument, coef and base_weight
Gradients = tuple[Tensor, Tensor, Tensor, Tensor | None]  # and the sums of the first a channel


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


def forward(
    compute: Callable[..., Tensor],
    x: Tensor,
    coef: Tensor,
    base_weight: Tensor,
    phi: Phi,
    to: Affine | None,
    channels_last: bool = False,
) -> Tensor:
    """φ of whole tensors by ``compute(x, coef, base_weight, phi)`` of blocks, which may read channels-last memory in place."""
    if to is not None:
        return forward(compute, normalised(x, to), coef, base_weight, phi, None, channels_last).to(x.dtype)
    if x.numel() == 0:
        return output_like(x, coef, phi.blocks, channels_last)
    c, w = coef.unflatten(0, (phi.blocks, -1)), base_weight.unflatten(0, (phi.blocks, -1))
    if len(coef) == 1:
        return _restore(compute(_elementwise(x), c, w, phi), x)
    last = channels_last and _worth_it(x, phi.blocks)
    return _join(compute(_split(x, last, phi.blocks), c, w, phi), x, last)


def backward(
    compute: Callable[..., Three],
    grad: Tensor,
    x: Tensor,
    coef: Tensor,
    base_weight: Tensor,
    phi: Phi,
    to: Affine | None,
    channels_last: bool = False,
) -> Gradients:
    """Gradients of ``forward`` likewise, by ``compute(grad, x, coef, base_weight, phi)``."""
    if to is not None:
        inner, *of_phi, _ = backward(compute, grad, normalised(x, to), coef, base_weight, phi, None, channels_last)
        return inner, of_phi[0], of_phi[1], channel_sums(inner, x, to.mean)
    if x.numel() == 0:
        return gradient_like(x, coef, phi.blocks, channels_last), torch.zeros_like(coef), torch.zeros_like(base_weight), None
    c, w = coef.unflatten(0, (phi.blocks, -1)), base_weight.unflatten(0, (phi.blocks, -1))
    if len(coef) == 1:
        order = _memory_order(x)
        g = (grad if order is None else grad.permute(order)).reshape(1, 1, 1, -1)
        flat, *others = compute(g, _elementwise(x), c, w, phi)
        grad_x = _restore(flat, x)
    else:
        last = channels_last and _worth_it(x, phi.blocks)
        g = _split(grad, last, phi.blocks, c.shape[1])
        split, *others = compute(g, _split(x, last, phi.blocks), c, w, phi)
        grad_x = _join(split, x, last)
    return grad_x, others[0].flatten(0, 1), others[1].flatten(0, 1), None


def output_like(x: Tensor, coef: Tensor, blocks: int, channels_last: bool) -> Tensor:
    """An uninitialised output of ``forward``."""
    return _empty(x, coef, blocks, channels_last, len(coef) // blocks)


def gradient_like(x: Tensor, coef: Tensor, blocks: int, channels_last: bool) -> Tensor:
    """An uninitialised gradient of x, as ``backward`` returns it."""
    return _empty(x, coef, blocks, channels_last, 1)


def in_lines(x: Tensor, blocks: int) -> tuple[Tensor, bool]:
    """x with one of two orders of memory, and whether that is channels-last: else its channels follow each other."""
    last = _worth_it(x, blocks)
    return (x if last else x.contiguous()), last


def _empty(x: Tensor, coef: Tensor, blocks: int, channels_last: bool, times: int) -> Tensor:
    if len(coef) == 1:
        return torch.empty_like(x)
    if channels_last and _worth_it(x, blocks):
        return x.new_empty(x.shape[0], *x.shape[2:], times * x.shape[1]).movedim(-1, 1)
    return x.new_empty(x.shape[0], times * x.shape[1], *x.shape[2:])


def _worth_it(x: Tensor, blocks: int) -> bool:
    """Whether x lies channels-last and its blocks of channels fill the 32 bytes that a GPU reads at once."""
    wide = blocks == 1 or x.shape[1] * x.itemsize >= 32 * blocks
    return wide and not x.is_contiguous() and x.movedim(1, -1).is_contiguous()


def _split(t: Tensor, last: bool, *shape: int) -> Tensor:
    """``(B, C, *S)`` as ``(B, *shape, N)``; channels-last memory is ``(B·S, *shape, N)``, a pixel after the other."""
    if not last:
        return t.reshape(t.shape[0], *shape, -1)
    return t.movedim(1, -1).reshape(-1, *shape, t.shape[1] // math.prod(shape))


def _join(split: Tensor, like: Tensor, last: bool) -> Tensor:
    """The inverse of ``_split``: ``(B, C, *S)`` with as many channels as there are."""
    batch, *space = like.shape[0], *like.shape[2:]
    return split.view(batch, *space, -1).movedim(-1, 1) if last else split.view(batch, -1, *space)


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
