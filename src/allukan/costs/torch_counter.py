"""Formulas for torch's own ``FlopCounterMode``: with this module imported it sees the splines.

Where nobody counts, layers call no operator of ``torch.library`` (a call costs more than a small layer); under a counter they do.
What has no formula in torch (norms, sums, products of elements) only ``inspect_model`` sees.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch.utils.flop_counter import register_flop_formula

from allukan.costs.flops import Cost, expansion_cost, shared_cost

Shape = Sequence[int]


def _shared(x: Shape, coef: Shape, order: int, basis: str, base: str, exact: bool, blocks: int) -> Cost:
    activations, coefficients = coef
    met = activations // blocks
    return shared_cost(torch.Size(x).numel(), activations, coefficients - order, order, basis, base, met=met, exact=exact)


@register_flop_formula(torch.ops.allukan.shared_spline)
def shared_spline_flops(
    x: Shape,
    coef: Shape,
    weight: Shape,
    lo: float,
    hi: float,
    order: int,
    basis: str,
    base: str,
    exact: bool,
    blocks: int,
    *_: Any,
    **__: Any,
) -> int:
    """Forward FLOPs of ``allukan::shared_spline``, from shapes."""
    return _shared(x, coef, order, basis, base, exact, blocks).forward.total


@register_flop_formula(torch.ops.allukan.shared_spline_backward)
def shared_spline_backward_flops(grad: Shape, x: Shape, coef: Shape, weight: Shape, *options: Any, **_: Any) -> int:
    """FLOPs of ``allukan::shared_spline_backward``: the gradients of input, coefficients and base weight."""
    _lo, _hi, order, basis, base, exact, blocks, _engine = options
    return _shared(x, coef, order, basis, base, exact, blocks).backward.total


@register_flop_formula(torch.ops.allukan.basis_expansion)
def basis_expansion_flops(
    x: Shape, lo: float, hi: float, grid_size: int, order: int, basis: str, base: str, exact: bool, *_: Any, **__: Any
) -> int:
    """Forward FLOPs of ``allukan::basis_expansion``, from shapes."""
    return expansion_cost(torch.Size(x).numel(), grid_size, order, basis, base, exact=exact).forward.total


@register_flop_formula(torch.ops.allukan.basis_expansion_backward)
def basis_expansion_backward_flops(grad: Shape, x: Shape, *options: Any, **_: Any) -> int:
    """FLOPs of ``allukan::basis_expansion_backward``, from shapes."""
    _lo, _hi, grid_size, order, basis, base, exact, *_impl = options
    return expansion_cost(torch.Size(x).numel(), grid_size, order, basis, base, exact=exact).backward.total
