"""FLOPs of single torch operators: matrix products by torch's own formulas, all else by a stated convention.

An element of the output unless said otherwise; forward, then backward.

    convolution, matrix product      torch's registry (2 a multiply-add); once more for each operand that needs a gradient.
                                     torch itself multiplies the weight gradient of a grouped convolution by its groups
                                     (2.13: ``conv_backward_flop`` never divides by them); here it costs what the forward costs
    matrix times vector, dot         likewise, though torch has no formula for them
    bias within these                1; 1
    normalisation                    8 (mean 1, variance 3, normalise 2, affine 2); 9 (x̂ 2, ∂β 1, ∂γ 2, ∂x 4)
    SiLU, GELU, ReLU, tanh, sigmoid  as the bases in ``flops``; their derivative and the product with g; PReLU as leaky ReLU
    other elementwise operators      1; 2 for each operand that needs a gradient, but for sums and differences 0
    max pooling, average pooling     the values in a window; 1
    linear resizing                  2·2^d - 1; 2·2^d (d spatial dimensions), nearest: 0; 1
    softmax                          5; 4
    sum, mean, variance …            1, 1, 3 an element of the input; 0
    copies, views, padding, look-up  0
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import flop_registry

from allukan.costs.flops import NORM, NOTHING, Cost, Flops
from allukan.ops.activations import BASES, base_activation

_VECTORS = {"mv", "dot"}
_NORMS = {"native_batch_norm", "_native_batch_norm_legit", "cudnn_batch_norm", "native_layer_norm", "native_group_norm"}
_NORMS |= {"_batch_norm_with_update", "miopen_batch_norm", "batch_norm_with_update"}
_POOLS = {"max_pool2d_with_indices", "max_pool3d_with_indices", "avg_pool2d", "avg_pool3d"}
_TAPS = {"upsample_linear1d": 2, "upsample_bilinear2d": 4, "upsample_trilinear3d": 8, "upsample_bicubic2d": 16}
_NEAREST = {"upsample_nearest1d", "upsample_nearest2d", "upsample_nearest3d"}
_REDUCTIONS = {"sum": 1, "mean": 1, "amax": 1, "amin": 1, "max": 1, "var": 3, "var_mean": 4, "_adaptive_avg_pool2d": 1}
_REDUCTIONS |= {"_adaptive_avg_pool3d": 1, "std": 4, "linalg_vector_norm": 2}
_SOFTMAX = {"_softmax", "_log_softmax"}
_SUMS = {"add", "sub", "rsub"}
_COPIES = {"clone", "where", "masked_fill"}  # that torch tags as elementwise
_ACTIVATIONS = {name: base.flops for name, base in BASES.items()}
_ACTIVATIONS |= dict.fromkeys(("leaky_relu", "_prelu_kernel"), base_activation("leaky_relu:0").flops)


def operator_cost(func: Any, args: Sequence[Any], kwargs: dict[str, Any], out: Any) -> Cost:
    """FLOPs of one call of an ``aten`` operator and of its gradient, from the shapes of the tensors.

    >>> a, b = torch.zeros(2, 3), torch.zeros(3, 4, requires_grad=True)
    >>> operator_cost(torch.ops.aten.mm.default, (a, b), {}, a @ b)
    Cost(forward=Flops(linear=48, spline=0, other=0), backward=Flops(linear=48, spline=0, other=0))
    """
    packet = func.overloadpacket
    name = packet.__name__
    result = out[0] if isinstance(out, tuple | list) else out
    if func.namespace != "aten" or not isinstance(result, Tensor) or not result.is_floating_point():
        return NOTHING
    if packet in flop_registry:
        return _linear(name, flop_registry[packet](*args, **kwargs, out_val=out), args, result)
    if name in _VECTORS:
        return _linear(name, 2 * args[0].numel(), args, result)
    per_element = _per_element(name.rstrip("_") if not name.startswith("_") else name, func, args)
    needed = sum(_needs(a) for a in args if isinstance(a, Tensor) and a.is_floating_point())
    forward, backward = per_element(result, needed)
    return Cost(Flops(other=forward), Flops(other=backward))


def _needs(tensor: Any) -> bool:
    return isinstance(tensor, Tensor) and tensor.requires_grad


def _linear(name: str, product: int, args: Sequence[Any], out: Tensor) -> Cost:
    """Operands and bias stand in other places for addmm and baddbmm (bias first) than for the others (bias third)."""
    first_bias = "add" in name
    operands = args[1:3] if first_bias else args[:2]
    bias = args[0] if first_bias else args[2] if "conv" in name and len(args) > 2 else None
    backward = product * sum(_needs(operand) for operand in operands)
    added = out.numel() if isinstance(bias, Tensor) else 0
    return Cost(Flops(product, other=added), Flops(backward, other=added * _needs(bias)))


Rule = Callable[[Tensor, int], tuple[int, int]]


def _per_element(name: str, func: Any, args: Sequence[Any]) -> Rule:
    """The rule of an operator: its output and the number of operands that need a gradient → FLOPs forward and backward."""
    if name in _NORMS:
        return _each(*NORM)
    if name in _ACTIVATIONS:
        value, slope = _ACTIVATIONS[name]
        return _each(value, value + slope + 1)
    if name in _POOLS:
        return _each(math.prod(args[1]) if len(args[1]) > 1 else args[1][0] ** (args[0].ndim - 2), 1)
    if name in _TAPS:
        return _each(2 * _TAPS[name] - 1, 2 * _TAPS[name])
    if name in _NEAREST:
        return _each(0, 1)
    if name in _SOFTMAX:
        return _each(5, 4)
    if name in _REDUCTIONS:
        return lambda out, needed: (_REDUCTIONS[name] * args[0].numel(), 0)
    if name not in _COPIES and torch.Tag.pointwise in func.tags:
        return lambda out, needed: (out.numel(), 0 if name in _SUMS else 2 * out.numel() * needed)
    return _each(0, 0)


def _each(forward: int, backward: int) -> Rule:
    return lambda out, needed: (forward * out.numel(), backward * out.numel() * (needed > 0))
