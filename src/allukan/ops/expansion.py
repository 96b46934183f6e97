"""The expanded form for many activations: every channel becomes its M + 1 basis channels, then ONE convolution follows."""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from torch import Tensor

from allukan.ops.activations import base_derivative
from allukan.ops.autograd import transformable
from allukan.ops.bspline import GridRange
from allukan.ops.engines.dispatch import COMPOSED, ENGINES, choose
from allukan.ops.engines.layout import without_autocast
from allukan.ops.phi import Phi, checked_phi
from allukan.ops.subclasses import through_subclasses
from allukan.ops.tracing import transforms, watched

ONCE = "basis_expansion is differentiable once"


@through_subclasses
def basis_expansion(
    x: Tensor,
    grid_size: int,
    spline_order: int,
    grid_range: GridRange,
    *,
    basis: str = "bspline",
    base: str = "silu",
    input_grad: str = "exact",
    impl: str = "auto",
) -> Tensor:
    """``(B, C, *S)`` → ``(B, C·(M + 1), *S)``: for each channel b(x), then B_0(x) … B_{M-1}(x). Saves only x.

    ``input_grad`` as in ``shared_spline``; ``"free"`` lets no gradient through the basis functions. ``impl`` as there, but for
    "triton", which has no such kernel. Raises ``ValueError`` for unusable options.

    >>> basis_expansion(torch.zeros(1, 2, 4), 5, 3, (-1.0, 1.0)).shape
    torch.Size([1, 18, 4])
    """
    grid = (grid_size, spline_order, tuple(grid_range))
    phi = checked_phi(*grid, basis, base, input_grad, expanded=True, impl=impl)  # type: ignore[arg-type]
    if x.ndim < 2 or not x.is_floating_point():
        raise ValueError(f"x must be (B, C, *S) and floating point, got {tuple(x.shape)} of {x.dtype}")
    return apply(x, phi, choose(phi, x.device.type, x.dtype)).flatten(1, 2)


def apply(x: Tensor, phi: Phi, engine: str) -> Tensor:
    """The terms of φ by that engine, ``(B, C, *S)`` → ``(B, C, M + 1, *S)``, differentiable, as the caller can follow it."""
    if engine in COMPOSED:
        return COMPOSED[engine].expand(x, phi)
    return transformable_expansion(x, phi) if transforms() else expand_op(x, *_arguments(phi))


def expand(x: Tensor, phi: Phi) -> Tensor:
    """The engine's, as an operator of ``torch.library`` where somebody looks on (``watched``)."""
    return expand_op(x, *_arguments(phi)) if watched(x) else _engine(x, phi).expand(x, phi)


def expand_backward(grad: Tensor, x: Tensor, phi: Phi) -> Tensor:
    """Likewise."""
    return expand_backward_op(grad, x, *_arguments(phi)) if watched(grad, x) else _engine(x, phi).expand_backward(grad, x, phi)


@without_autocast
def base_backward(grad: Tensor, x: Tensor, base: str) -> Tensor:
    """Gradient for x of the base alone, b(x), from grad of its shape."""
    wide = x.to(torch.promote_types(x.dtype, torch.float32))
    return (base_derivative(base)(wide) * grad).to(x.dtype)


def _engine(x: Tensor, phi: Phi) -> Any:
    return ENGINES[choose(phi, x.device.type, x.dtype)]


def _arguments(phi: Phi) -> tuple:
    """Everything but tensors, in a form that torch's dispatcher knows."""
    return *phi.grid_range, phi.grid_size, phi.spline_order, phi.basis, phi.base, phi.exact, phi.impl


@cache
def _phi(lo: float, hi: float, size: int, order: int, basis: str, base: str, exact: bool, impl: str) -> Phi:
    return Phi(size, order, (lo, hi), basis, base, exact, expanded=True, impl=impl)


@torch.library.custom_op("allukan::basis_expansion", mutates_args=())
def expand_op(
    x: Tensor,
    lo: float,
    hi: float,
    grid_size: int,
    spline_order: int,
    basis: str,
    base: str,
    exact: bool,
    impl: str = "auto",
) -> Tensor:
    """``expand`` of the engine."""
    phi = _phi(lo, hi, grid_size, spline_order, basis, base, exact, impl)
    return _engine(x, phi).expand(x, phi)


@torch.library.custom_op("allukan::basis_expansion_backward", mutates_args=())
def expand_backward_op(
    grad: Tensor,
    x: Tensor,
    lo: float,
    hi: float,
    grid_size: int,
    spline_order: int,
    basis: str,
    base: str,
    exact: bool,
    impl: str = "auto",
) -> Tensor:
    """``expand_backward`` of the engine."""
    phi = _phi(lo, hi, grid_size, spline_order, basis, base, exact, impl)
    return _engine(x, phi).expand_backward(grad, x, phi)


@expand_op.register_fake
def _(x: Tensor, lo: float, hi: float, grid_size: int, spline_order: int, *options: Any) -> Tensor:
    return x.new_empty(*x.shape[:2], grid_size + spline_order + 1, *x.shape[2:])


@expand_backward_op.register_fake
def _(grad: Tensor, x: Tensor, *options: Any) -> Tensor:
    return torch.empty_like(x)


def _setup(ctx: Any, inputs: tuple, output: Tensor) -> None:
    ctx.save_for_backward(inputs[0])
    ctx.options = inputs[1:]


def _differentiate(ctx: Any, grad: Tensor) -> tuple:
    return (expand_backward_op(grad, ctx.saved_tensors[0], *ctx.options), *([None] * len(ctx.options)))


def _refuse(ctx: Any, *grads: Tensor) -> tuple:
    raise RuntimeError(ONCE)


expand_op.register_autograd(_differentiate, setup_context=_setup)
expand_backward_op.register_autograd(_refuse)


transformable_expansion = transformable(expand, expand_backward, 1, ONCE)
