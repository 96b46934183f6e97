"""The linear half of a KA layer: a convolution or a matrix product, with its backward pass written out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from allukan.ops.tracing import sizes

_convolution_backward = torch.ops.aten.convolution_backward.default
Gradients = tuple[Tensor | None, Tensor | None, Tensor | None]
Wanted = tuple[bool, bool, bool]


class LinearMap(Protocol):
    """What combines the activated channels h."""

    def forward(self, h: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """The output."""

    def backward(self, grad: Tensor, h: Tensor, weight: Tensor, wanted: Wanted) -> Gradients:
        """Gradients of h, weight and bias, where wanted."""


class Mapped(NamedTuple):
    """A linear map behind φ with its weight and bias."""

    linear: LinearMap
    weight: Tensor
    bias: Tensor | None


@dataclass(frozen=True)
class Convolution:
    """``(B, G·C, *S)`` and weight ``(C', C, *kernel)`` → ``(B, C', *S')``; padding is a number a side, as in ``F.conv2d``.

    ``surplus``, 0 or 1 a dimension, is what the padding before is less than that after (an even kernel with padding="same"): the
    first outputs are dropped.
    """

    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]
    groups: int = 1
    surplus: tuple[int, ...] = ()

    def forward(self, h: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """The convolution."""
        none = (0,) * len(self.stride)
        y = torch.convolution(h, weight, bias, self.stride, self.padding, self.dilation, False, none, self.groups)
        for dim, surplus in enumerate(self.surplus, 2):
            y = y.narrow(dim, surplus, y.shape[dim] - surplus) if surplus else y
        return y

    def backward(self, grad: Tensor, h: Tensor, weight: Tensor, wanted: Wanted) -> Gradients:
        """Its gradients."""
        if any(self.surplus):
            grad = F.pad(grad, [width for s in reversed(self.surplus) for width in (s, 0)])
        none, sizes = (0,) * len(self.stride), [weight.shape[0]] if wanted[2] else None
        return _convolution_backward(
            grad, h, weight, sizes, self.stride, self.padding, self.dilation, False, none, self.groups, wanted
        )


@dataclass(frozen=True)
class PaddedConvolution:
    """A convolution of h with zeros around it that a ``Convolution`` has no numbers for.

    ``widths`` are those before and after, a dimension; None stands for TensorFlow's "same": ⌈size / stride⌉ outputs for every
    size, where the zeros that do not divide by two are after.
    """

    stride: tuple[int, ...]
    dilation: tuple[int, ...]
    groups: int = 1
    widths: tuple[tuple[int, int], ...] | None = None

    def forward(self, h: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """The convolution."""
        return self._inner.forward(F.pad(h, self._pads(h, weight)), weight, bias)

    def backward(self, grad: Tensor, h: Tensor, weight: Tensor, wanted: Wanted) -> Gradients:
        """Its gradients."""
        pads = self._pads(h, weight)
        grad_h, grad_weight, grad_bias = self._inner.backward(grad, F.pad(h, pads), weight, wanted)
        return None if grad_h is None else F.pad(grad_h, [-width for width in pads]), grad_weight, grad_bias

    @property
    def _inner(self) -> Convolution:
        return Convolution(self.stride, (0,) * len(self.stride), self.dilation, self.groups)

    def _pads(self, h: Tensor, weight: Tensor) -> list[int]:
        """As ``F.pad`` wants them: the last dimension first."""
        widths = self.widths
        if widths is None:
            options = zip(h.shape[2:], sizes(weight)[2:], self.stride, self.dilation, strict=True)
            widths = tuple(same_padding(*option) for option in options)
        return [width for pair in reversed(widths) for width in pair]


def same_padding(size: int, kernel: int, stride: int, dilation: int) -> tuple[int, int]:
    """Widths before and after of TensorFlow's "same".

    >>> same_padding(8, 3, 2, 1), same_padding(9, 3, 2, 1)
    ((0, 1), (1, 1))
    """
    reach = dilation * (kernel - 1) + 1
    total = (size + stride - 1) // stride * stride - stride + reach - size
    if reach < stride:  # only then can it be negative
        total = torch.sym_max(total, 0)
    return total // 2, total - total // 2


@dataclass(frozen=True)
class MatrixProduct:
    """``(N, A·C)`` and weight ``(C', C)`` → ``(N, C')``, in A groups of inputs and outputs; for A = 1 any leading dimensions."""

    groups: int = 1

    def forward(self, h: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """The product."""
        if self.groups == 1:
            return F.linear(h, weight, bias)
        y = torch.einsum("nac,aoc->nao", self._split(h), weight.unflatten(0, (self.groups, -1))).flatten(1)
        return y if bias is None else y + bias

    def backward(self, grad: Tensor, h: Tensor, weight: Tensor, wanted: Wanted) -> Gradients:
        """Its gradients."""
        rows = grad.reshape(-1, grad.shape[-1])  # a vector is one
        grad_bias = rows.sum(0) if wanted[2] else None
        if self.groups == 1:
            grad_h = grad @ weight if wanted[0] else None
            grad_weight = rows.mT @ h.reshape(-1, h.shape[-1]) if wanted[1] else None
            return grad_h, grad_weight, grad_bias
        g, w = self._split(grad), weight.unflatten(0, (self.groups, -1))
        grad_h = torch.einsum("nao,aoc->nac", g, w).flatten(1) if wanted[0] else None
        grad_weight = torch.einsum("nao,nac->aoc", g, self._split(h)).flatten(0, 1) if wanted[1] else None
        return grad_h, grad_weight, grad_bias

    def _split(self, x: Tensor) -> Tensor:
        return x.unflatten(1, (self.groups, -1))
