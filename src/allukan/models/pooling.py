"""Max pooling that keeps a byte a window for the backward pass, where torch keeps the whole input and an int64 index."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import Function, once_differentiable

from allukan.ops.tracing import sees_operators

_POOLS: dict[int, Any] = {4: F.max_pool2d, 5: F.max_pool3d}


def max_pool(x: Tensor, windows: Sequence[int]) -> Tensor:
    """Maxima of windows of 1 or 2 along every axis, incomplete ones included: ``(B, C, *S)`` → ``(B, C, *⌈S/windows⌉)``.

    >>> max_pool(torch.arange(9.0).view(1, 1, 3, 3), (2, 2)).flatten().tolist()
    [4.0, 5.0, 7.0, 8.0]
    >>> max_pool(torch.arange(9.0).view(1, 1, 3, 3), (1, 2)).flatten().tolist()
    [1.0, 2.0, 4.0, 5.0, 7.0, 8.0]
    """
    if max(windows) == 1:
        return x
    if sees_operators() or not (torch.is_grad_enabled() and x.requires_grad):
        pooled: Tensor = _POOLS[x.ndim](x, windows, ceil_mode=True)
        return pooled
    return _MaxPool.apply(x, windows)


class _MaxPool(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, windows: Sequence[int]) -> Tensor:
        y, index = _POOLS[x.ndim](x, windows, ceil_mode=True, return_indices=True)
        ctx.save_for_backward(_corner(index, x.shape[2:], windows))
        ctx.shape, ctx.windows = x.shape, windows
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        index = _index(ctx.saved_tensors[0], ctx.shape[2:], ctx.windows)
        flat = grad.new_zeros(*ctx.shape[:2], ctx.shape[2:].numel())
        return flat.scatter_(2, index.flatten(2), grad.flatten(2)).view(ctx.shape), None


def _corner(index: Tensor, size: Sequence[int], windows: Sequence[int]) -> Tensor:
    """Which corner of its window the maximum is, a bit a dimension, as uint8; a window of 1 has none."""
    corner = torch.zeros_like(index, dtype=torch.uint8)
    for dim, (length, window) in enumerate(zip(reversed(size), reversed(windows), strict=True)):
        corner |= (((index % length) & (window - 1)) << dim).to(torch.uint8)
        index = torch.div(index, length, rounding_mode="floor")
    return corner


def _index(corner: Tensor, size: Sequence[int], windows: Sequence[int]) -> Tensor:
    """The inverse of ``_corner``: positions in the flattened input."""
    index, stride = torch.zeros_like(corner, dtype=torch.int64), 1
    for dim, (length, window) in enumerate(zip(reversed(size), reversed(windows), strict=True)):
        starts = window * torch.arange(corner.shape[-1 - dim], device=corner.device).view(-1, *[1] * dim)
        index += (starts + ((corner >> dim) & 1)) * stride
        stride *= length
    return index
