"""The fast shared spline as ``autograd.Function``: a tenth of the cost of a call of the operator, and open to ``torch.func``."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import Function

from allukan.ops.shared_spline import layout
from allukan.ops.shared_spline.library import ONCE


class SharedSpline(Function):
    """``layout.forward`` with its gradient; saves its three tensors only."""

    @staticmethod
    def forward(x: Tensor, coef: Tensor, base_weight: Tensor, *options: Any) -> Tensor:
        """See ``layout.forward``."""
        return layout.forward(x, coef, base_weight, *options)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: Tensor) -> None:
        """Keep the inputs."""
        ctx.save_for_backward(*inputs[:3])
        ctx.options = inputs[3:]

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple:
        """See ``layout.backward``."""
        return (*_Backward.apply(grad, *ctx.saved_tensors, *ctx.options), *([None] * len(ctx.options)))

    @staticmethod
    def vmap(info: Any, in_dims: tuple, x: Tensor, coef: Tensor, base_weight: Tensor, *options: Any) -> tuple[Tensor, int]:
        """Samples fold into the batch; ensembles of coefficients are looped over."""
        tensors = (x, coef, base_weight)
        if in_dims[1] is None and in_dims[2] is None and x.ndim > 1:
            moved = x.movedim(in_dims[0], 0)
            return SharedSpline.apply(moved.flatten(0, 1), coef, base_weight, *options).unflatten(0, moved.shape[:2]), 0
        return torch.stack([SharedSpline.apply(*_pick(tensors, in_dims, i), *options) for i in range(info.batch_size)]), 0


class _Backward(Function):
    """``layout.backward``, which has no derivative of its own and says so."""

    @staticmethod
    def forward(grad: Tensor, x: Tensor, coef: Tensor, base_weight: Tensor, *options: Any) -> tuple[Tensor, Tensor, Tensor]:
        return layout.backward(grad, x, coef, base_weight, *options)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: tuple) -> None:
        pass

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple:
        raise RuntimeError(ONCE)

    @staticmethod
    def vmap(info: Any, in_dims: tuple, *args: Any) -> tuple[tuple[Tensor, ...], tuple[int, ...]]:
        each = [_Backward.apply(*_pick(args[:4], in_dims, i), *args[4:]) for i in range(info.batch_size)]
        return tuple(torch.stack(parts) for parts in zip(*each, strict=True)), (0, 0, 0)


def _pick(tensors: tuple, dims: tuple, i: int) -> list[Tensor]:
    return [t if d is None else t.select(d, i) for t, d in zip(tensors, dims, strict=False)]
