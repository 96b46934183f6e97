"""The shared spline as torch sees it: an ``autograd.Function`` where nobody looks on, operators of ``torch.library`` elsewhere.

In eager mode a call of the function costs a tenth of a call of the operator.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import Function

from allukan.ops import normalise
from allukan.ops.autograd import differentiable_once, transformable
from allukan.ops.engines import layout
from allukan.ops.engines.dispatch import COMPOSED, ENGINES
from allukan.ops.engines.layout import Gradients
from allukan.ops.normalise import Affine, channel_sums, normalised
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


def apply_normalised(x: Tensor, coef: Tensor, base_weight: Tensor, to: Affine, phi: Phi, engine: str) -> Tensor:
    """φ(scale·x + shift) for whoever sees operators, differentiable in the scale and the shift as well."""
    return normalised_spline_op(x, coef, base_weight, to.numbers, *_arguments(phi, engine))


def forward(x: Tensor, coef: Tensor, base_weight: Tensor, phi: Phi, engine: str, to: Affine | None = None) -> Tensor:
    """The engine's, in the form that whoever looks on can follow."""
    return tools(engine, x, coef, base_weight).forward(x, coef, base_weight, phi, to)  # type: ignore[no-any-return]


class _Watched:
    """What an engine has, as operators of ``torch.library`` and plain torch."""

    NORM = normalise

    def __init__(self, engine: str) -> None:
        self.engine = engine

    def forward(self, x: Tensor, coef: Tensor, base_weight: Tensor, phi: Phi, to: Affine | None) -> Tensor:
        seen = normalised(x, to)
        return torch.ops.allukan.shared_spline(seen, coef, base_weight, *_arguments(phi, self.engine)).to(x.dtype)

    def backward(self, grad: Tensor, x: Tensor, coef: Tensor, base_weight: Tensor, phi: Phi, to: Affine | None) -> Gradients:
        seen = normalised(x, to)
        grads = torch.ops.allukan.shared_spline_backward(grad, seen, coef, base_weight, *_arguments(phi, self.engine))
        return *grads, None if to is None else channel_sums(grads[0], x, to.mean)


def tools(engine: str, *tensors: Tensor) -> Any:
    """That engine, or what stands in its place where somebody looks on (``watched``)."""
    return _Watched(engine) if watched(*tensors) else ENGINES[engine]


def backward(grad: Tensor, x: Tensor, coef: Tensor, base_weight: Tensor, phi: Phi, engine: str) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of ``forward`` for x, coef and base_weight, likewise."""
    return tools(engine, grad, x, coef, base_weight).backward(grad, x, coef, base_weight, phi, None)[:3]  # type: ignore[no-any-return]


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
    return ENGINES[engine].backward(grad, x, coef, base_weight, phi)[:3]


@shared_spline_op.register_fake
def _(x: Tensor, coef: Tensor, base_weight: Tensor, *options: Any) -> Tensor:
    *_, blocks, engine = options
    return layout.output_like(x, coef, blocks, ENGINES[engine].CHANNELS_LAST)


@shared_spline_backward_op.register_fake
def _(grad: Tensor, x: Tensor, coef: Tensor, base_weight: Tensor, *options: Any) -> tuple[Tensor, Tensor, Tensor]:
    *_, blocks, engine = options
    like = layout.gradient_like(x, coef, blocks, ENGINES[engine].CHANNELS_LAST)
    return like, torch.empty_like(coef), torch.empty_like(base_weight)


@torch.library.custom_op("allukan::normalised_spline", mutates_args=())
def normalised_spline_op(
    x: Tensor,
    coef: Tensor,
    base_weight: Tensor,
    numbers: Tensor,
    lo: float,
    hi: float,
    spline_order: int,
    basis: str,
    base: str,
    exact: bool,
    blocks: int,
    engine: str,
) -> Tensor:
    """``forward`` of the engine with a scale and a shift a channel, ``numbers`` of ``Affine``; differentiable in them, too."""
    phi = _phi(coef.shape[1], lo, hi, spline_order, basis, base, exact, blocks, engine)
    out = ENGINES[engine].forward(x, coef, base_weight, phi, Affine(numbers))
    return _laid_out(out, layout.output_like(x, coef, blocks, ENGINES[engine].CHANNELS_LAST))


def _laid_out(tensor: Tensor, like: Tensor) -> Tensor:
    """The tensor in the layout that its operator is known to give."""
    return tensor if tensor.stride() == like.stride() else like.copy_(tensor)


@torch.library.custom_op("allukan::normalised_spline_backward", mutates_args=())
def normalised_spline_backward_op(
    grad: Tensor,
    x: Tensor,
    coef: Tensor,
    base_weight: Tensor,
    numbers: Tensor,
    lo: float,
    hi: float,
    spline_order: int,
    basis: str,
    base: str,
    exact: bool,
    blocks: int,
    engine: str,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """``backward`` of the engine likewise: gradients of φ's argument, coef and base_weight, and the sums ``(B, C, 2)``."""
    phi = _phi(coef.shape[1], lo, hi, spline_order, basis, base, exact, blocks, engine)
    inner, *others, sums = ENGINES[engine].backward(grad, x, coef, base_weight, phi, Affine(numbers))
    inner = _laid_out(inner.to(x.dtype), layout.gradient_like(x, coef, blocks, ENGINES[engine].CHANNELS_LAST))
    return inner, *others, sums.sum(0).view(*x.shape[:2], 2).to(numbers.dtype)


@normalised_spline_op.register_fake
def _(x: Tensor, coef: Tensor, base_weight: Tensor, numbers: Tensor, *options: Any) -> Tensor:
    *_, blocks, engine = options
    return layout.output_like(x, coef, blocks, ENGINES[engine].CHANNELS_LAST)


@normalised_spline_backward_op.register_fake
def _(grad: Tensor, x: Tensor, coef: Tensor, base_weight: Tensor, numbers: Tensor, *options: Any) -> tuple[Tensor, ...]:
    *_, blocks, engine = options
    like = layout.gradient_like(x, coef, blocks, ENGINES[engine].CHANNELS_LAST)
    return like, torch.empty_like(coef), torch.empty_like(base_weight), numbers.new_empty(*x.shape[:2], 2)


def _setup_normalised(ctx: Any, inputs: tuple, output: Tensor) -> None:
    ctx.save_for_backward(*inputs[:4])
    ctx.options = inputs[4:]


def _differentiate_normalised(ctx: Any, grad: Tensor) -> tuple:
    x, coef, base_weight, numbers = ctx.saved_tensors
    inner, *of_phi, sums = normalised_spline_backward_op(grad, x, coef, base_weight, numbers, *ctx.options)
    to = Affine(numbers)
    sums = sums if to.scale.shape[0] == x.shape[0] else sums.sum(0, keepdim=True)
    total, along = sums.unbind(2)
    of_numbers = torch.stack([along + to.mean * total, total, torch.zeros_like(total)])
    scale = to.scale.view(*to.scale.shape, *[1] * (x.ndim - 2))
    return (inner * scale).to(x.dtype), *of_phi, of_numbers, *([None] * len(ctx.options))


def _setup(ctx: Any, inputs: tuple, output: Tensor) -> None:
    ctx.save_for_backward(*inputs[:3])
    ctx.options = inputs[3:]


def _differentiate(ctx: Any, grad: Tensor) -> tuple:
    return (*shared_spline_backward_op(grad, *ctx.saved_tensors, *ctx.options), *([None] * len(ctx.options)))


def _refuse(ctx: Any, *grads: Tensor) -> tuple:
    raise RuntimeError(ONCE)


shared_spline_op.register_autograd(_differentiate, setup_context=_setup)
shared_spline_backward_op.register_autograd(_refuse)
normalised_spline_op.register_autograd(_differentiate_normalised, setup_context=_setup_normalised)
normalised_spline_backward_op.register_autograd(_refuse)
