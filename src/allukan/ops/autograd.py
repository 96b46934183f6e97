"""What the hand-written backward passes share: no derivative of their own, and a form that ``torch.func`` accepts."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

import torch
from torch.autograd.function import Function

P = ParamSpec("P")
T = TypeVar("T")


def cached(function: Callable[P, T]) -> Callable[P, T]:
    """``functools.cache`` for what runs a layer and step, without the warning that it gives under ``torch.compile``."""
    kept = functools.cache(function)

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> T:
        return function(*args, **kwargs) if torch.compiler.is_compiling() else kept(*args, **kwargs)  # type: ignore[arg-type]

    return call


def differentiable_once(message: str, function: Callable[..., tuple], *args: Any) -> tuple:
    """``function(*args)``; where a graph of the backward pass is asked for, using it raises ``RuntimeError(message)``."""
    return _Once.apply(message, function, *args) if torch.is_grad_enabled() else function(*args)


class _Once(Function):
    @staticmethod
    def forward(ctx: Any, message: str, function: Callable[..., tuple], *args: Any) -> tuple:
        ctx.message = message
        return function(*args)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple:
        raise RuntimeError(ctx.message)


def transformable(forward: Callable[..., Any], backward: Callable[..., Any], tensors: int, message: str) -> Callable[..., Any]:
    """``forward(*tensors, *options)`` with gradients from ``backward(grad, *tensors, *options)``, for ``torch.func``.

    Saves the tensors. ``vmap`` takes the samples one by one. Ten times the cost of a plain ``autograd.Function``, so only there.
    """

    class Backward(Function):
        @staticmethod
        def forward(*args: Any) -> Any:
            return backward(*args)

        @staticmethod
        def setup_context(ctx: Any, inputs: tuple, output: Any) -> None:
            pass

        @staticmethod
        def backward(ctx: Any, *grads: Any) -> tuple:
            raise RuntimeError(message)

        @staticmethod
        def vmap(info: Any, in_dims: tuple, *args: Any) -> tuple[Any, Any]:
            return _one_by_one(Backward.apply, info.batch_size, in_dims, args)

    class Forward(Function):
        @staticmethod
        def forward(*args: Any) -> Any:
            return forward(*args)

        @staticmethod
        def setup_context(ctx: Any, inputs: tuple, output: Any) -> None:
            ctx.save_for_backward(*inputs[:tensors])
            ctx.options = inputs[tensors:]

        @staticmethod
        def backward(ctx: Any, grad: Any) -> tuple:
            grads = Backward.apply(grad, *ctx.saved_tensors, *ctx.options)
            return (*(grads if isinstance(grads, tuple) else (grads,)), *([None] * len(ctx.options)))

        @staticmethod
        def vmap(info: Any, in_dims: tuple, *args: Any) -> tuple[Any, Any]:
            return _one_by_one(Forward.apply, info.batch_size, in_dims, args)

    return Forward.apply


def _one_by_one(function: Callable[..., Any], size: int, in_dims: tuple, args: tuple) -> tuple[Any, Any]:
    each = [function(*(a if d is None else a.select(d, i) for a, d in zip(args, in_dims, strict=True))) for i in range(size)]
    if isinstance(each[0], tuple):
        return tuple(torch.stack(parts) for parts in zip(*each, strict=True)), (0,) * len(each[0])
    return torch.stack(each), 0
