"""The fast shared spline as two operators of ``torch.library``: what ``torch.compile`` sees, and whoever counts operators."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from allukan.ops.shared_spline import layout
from allukan.ops.shared_spline.function import ONCE


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
    """``layout.compute``."""
    return layout.compute(x, coef, base_weight, lo, hi, spline_order, basis, base, exact, blocks, engine)


@shared_spline_op.register_fake
def _(x: Tensor, coef: Tensor, base_weight: Tensor, *options: Any) -> Tensor:
    o = layout.Options(*options)
    return layout.output_like(x, coef, o.blocks, o.engine)


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
    """``layout.differentiate``."""
    return layout.differentiate(grad, x, coef, base_weight, lo, hi, spline_order, basis, base, exact, blocks, engine)


@shared_spline_backward_op.register_fake
def _(grad: Tensor, x: Tensor, coef: Tensor, base_weight: Tensor, *options: Any) -> tuple[Tensor, Tensor, Tensor]:
    o = layout.Options(*options)
    return layout.gradient_like(x, coef, o.blocks, o.engine), torch.empty_like(coef), torch.empty_like(base_weight)


def _setup(ctx: Any, inputs: tuple, output: Tensor) -> None:
    ctx.save_for_backward(*inputs[:3])
    ctx.options = inputs[3:]


def _differentiate(ctx: Any, grad: Tensor) -> tuple:
    return (*shared_spline_backward_op(grad, *ctx.saved_tensors, *ctx.options), *([None] * len(ctx.options)))


def _refuse(ctx: Any, *grads: Tensor) -> tuple:
    raise RuntimeError(ONCE)


shared_spline_op.register_autograd(_differentiate, setup_context=_setup)
shared_spline_backward_op.register_autograd(_refuse)
