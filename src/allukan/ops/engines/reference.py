"""The specification: φ_a(x) = w_a b(x) + Σ_m c_am B_m(x), the basis as defined, by autograd, nothing clever."""

from __future__ import annotations

import torch
from torch import Tensor

from allukan.ops.activations import base_function
from allukan.ops.engines.layout import without_autocast
from allukan.ops.phi import Phi
from allukan.ops.tracing import sizes


@without_autocast
def forward(x: Tensor, coef: Tensor, base_weight: Tensor, phi: Phi) -> Tensor:
    """x ``(B, C, *S)``, coef ``(A, M)``, base_weight ``(A,)`` → ``(B, A·C/blocks, *S)``; see ``shared_spline``.

    Slow and memory hungry on purpose; differentiable any number of times where the spline order allows it.
    """
    dtype, blocks = torch.promote_types(x.dtype, torch.float32), phi.blocks
    wide = x.to(dtype)
    if x.ndim < 2:
        folded = wide.reshape(1, 1, x.numel())
    else:
        folded = wide.unsqueeze(1) if blocks == 1 else wide.unflatten(1, (blocks, sizes(x)[1] // blocks))
    coef, base_weight = coef.to(dtype).unflatten(0, (blocks, -1)), base_weight.to(dtype).unflatten(0, (blocks, -1))
    spline = torch.einsum("bj...m,jrm->bjr...", phi.values(folded if phi.exact else folded.detach()), coef)
    activated = torch.einsum("bj...,jr->bjr...", base_function(phi.base)(folded), base_weight)
    each = sizes(coef)[1]
    out_shape = x.shape if blocks == each == 1 else (x.shape[0], each * sizes(x)[1], *x.shape[2:])
    return (activated + spline).reshape(out_shape).to(x.dtype)


@without_autocast
def expand(x: Tensor, phi: Phi) -> Tensor:
    """x ``(B, C, *S)`` → ``(B, C, M + 1, *S)``; see ``basis_expansion``."""
    wide = x.to(torch.promote_types(x.dtype, torch.float32))
    values = phi.values(wide if phi.exact else wide.detach()).movedim(-1, 2)
    return torch.cat([base_function(phi.base)(wide).unsqueeze(2), values], dim=2).to(x.dtype)
