"""The shared spline as torch sees it: an ``autograd.Function`` where nobody looks on, operators of ``torch.library`` elsewhere.

In eager mode a call of the function costs a tenth of a call of the operator.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import Function

from allukan.ops.autograd import differentiable_once, transformable
from allukan.ops.engines import layout
from allukan.ops.engines.dispatch import COMPOSED, ENGINES
from allukan.ops.engines.layout import Gradients
from allukan.ops.phi import Phi
from allukan.ops.tracing import sees_operators, transforms, watched

ONCE = "shared_spline is differentiable once; use impl='reference' where a second derivative is needed"


def apply(x: Tensor, coef: Tensor, base_weight: Tensor, phi: Phi, engine: str) -> Tensor:
    """φ(x) by that engine, differentiable, in the form that the caller can follow."""
    if engine in COMPOSED:
        return COMPOSED[engine].forward(x, coef, base_weight, phi)
    if sees_operators():
        return shared_spline_op(x, coef, base_weight, *_arguments(phi, engine))
    return (transformable_spline if transforms() else SharedSpline.apply)(x, coef, base_weight, phi, engine)


def forward(x: Tensor, coef: Tensor, base_weight: Tensor, phi: Phi, engine: str) -> Tensor:
    """The engine's, as an operator of ``torch.library`` where somebody looks on (``watched``)."""
    if watched(x, coef, base_weight):
        return torch.ops.allukan.shared_spline(x, coef, base_weight, *_arguments(phi, engine))
    return ENGINES[engine].forward(x, coef, base_weight, phi)


def backward(grad: Tensor, x: Tensor, coef: Tensor, base_weight: Tensor, phi: Phi, engine: str) -> Gradients:
    """Likewise."""
    if watched(grad, x, coef, base_weight):
        return torch.ops.allukan.shared_spline_backward(grad, x, coef, base_weight, *_arguments(phi, engine))
    return ENGINES[engine].backward(grad, x, coef, base_weight, phi)


class SharedSpline(Function):
    """``forward`` with its gradient; saves its three tensors only."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, coef: Tensor, base_weight: Tensor, phi: Phi, engine: str) -> Tensor:
        """See above."""
        ctx.save_for_backward(x, coef, base_weight)
        ctx.how = phi, engine
        return forward(x, coef, base_weight, phi, engine)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple:
        """See above."""
        return (*differentiable_once(ONCE, backward, grad, *ctx.saved_tensors, *ctx.how), None, None)


transformable_spline = transformable(forward, backward, 3, ONCE)


def _arguments(phi: Phi, engine: str) -> tuple:
    """Everything but tensors, in a form that torch's dispatcher knows."""
    return *phi.grid_range, phi.spline_order, phi.basis, phi.base, phi.exact, phi.blocks, engine


@cache
def _phi(count: int, lo: float, hi: float, order: int, basis: str, base: str, exact: bool, blocks: int, engine: str) -> Phi:
    return Phi(count - order, order, (lo, hi), basis, base, exact, blocks)


@torch.library.custom_op("allukan::shared_spline", mutates_args=())
def shared_spline_op(
    x: Tensor,
    coef: Tensor,
    base_weight: Tensor,
    lo: float,
    hi: float,
    spline_order: int,
    basis: str,
    base: str,
    exact: bool,
    blocks: int,
    engine: str,
) -> Tensor:
    """``forward`` of the engine."""
    phi = _phi(coef.shape[1], lo, hi, spline_order, basis, base, exact, blocks, engine)
    return ENGINES[engine].forward(x, coef, base_weight, phi)


@torch.library.custom_op("allukan::shared_spline_backward", mutates_args=())
def shared_spline_backward_op(
    grad: Tensor,
    x: Tensor,
    coef: Tensor,
    base_weight: Tensor,
    lo: float,
    hi: float,
    spline_order: int,
    basis: str,
    base: str,
    exact: bool,
    blocks: int,
    engine: str,
) -> tuple[Tensor, Tensor, Tensor]:
    """``backward`` of the engine."""
    phi = _phi(coef.shape[1], lo, hi, spline_order, basis, base, exact, blocks, engine)
    return ENGINES[engine].backward(grad, x, coef, base_weight, phi)


@shared_spline_op.register_fake
def _(x: Tensor, coef: Tensor, base_weight: Tensor, *options: Any) -> Tensor:
    *_, blocks, engine = options
    return layout.output_like(x, coef, blocks, ENGINES[engine].CHANNELS_LAST)


@shared_spline_backward_op.register_fake
def _(grad: Tensor, x: Tensor, coef: Tensor, base_weight: Tensor, *options: Any) -> tuple[Tensor, Tensor, Tensor]:
    *_, blocks, engine = options
    like = layout.gradient_like(x, coef, blocks, ENGINES[engine].CHANNELS_LAST)
    return like, torch.empty_like(coef), torch.empty_like(base_weight)


def _setup(ctx: Any, inputs: tuple, output: Tensor) -> None:
    ctx.save_for_backward(*inputs[:3])
    ctx.options = inputs[3:]


def _differentiate(ctx: Any, grad: Tensor) -> tuple:
    return (*shared_spline_backward_op(grad, *ctx.saved_tensors, *ctx.options), *([None] * len(ctx.options)))


def _refuse(ctx: Any, *grads: Tensor) -> tuple:
    raise RuntimeError(ONCE)


shared_spline_op.register_autograd(_differentiate, setup_context=_setup)
shared_spline_backward_op.register_autograd(_refuse)
