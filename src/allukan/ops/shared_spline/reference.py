"""The specification: φ_a(x) = w_a b(x) + Σ_m c_am B_m(x), the basis as defined, by autograd, nothing clever."""

from __future__ import annotations

import torch
from torch import Tensor

from allukan.ops import bspline
from allukan.ops.bases import base_function
from allukan.ops.basis import family
from allukan.ops.shared_spline.layout import without_autocast
from allukan.ops.tracing import sizes


@without_autocast
def shared_spline_reference(
    x: Tensor,
    coef: Tensor,
    base_weight: Tensor,
    grid_range: bspline.GridRange,
    spline_order: int,
    basis: str,
    base: str,
    input_grad: str,
    blocks: int,
) -> Tensor:
    """x ``(B, C, *S)``, coef ``(A, M)``, base_weight ``(A,)`` → ``(B, A·C/blocks, *S)``; see ``shared_spline``.

    Slow and memory hungry on purpose; differentiable any number of times where the spline order allows it.
    """
    dtype = torch.promote_types(x.dtype, torch.float32)
    wide = x.to(dtype)
    if x.ndim < 2:
        folded = wide.reshape(1, 1, x.numel())
    else:
        folded = wide.unsqueeze(1) if blocks == 1 else wide.unflatten(1, (blocks, sizes(x)[1] // blocks))
    spline_input = folded if input_grad == "exact" else folded.detach()
    coef, base_weight = coef.to(dtype).unflatten(0, (blocks, -1)), base_weight.to(dtype).unflatten(0, (blocks, -1))
    _, each, count = sizes(coef)
    grid_size = count - spline_order
    values = family(basis).values(spline_input, grid_size, spline_order, grid_range)
    spline = torch.einsum("bj...m,jrm->bjr...", values, coef)
    activated = torch.einsum("bj...,jr->bjr...", base_function(base)(folded), base_weight)
    out_shape = x.shape if blocks == each == 1 else (x.shape[0], each * sizes(x)[1], *x.shape[2:])
    return (activated + spline).reshape(out_shape).to(x.dtype)
