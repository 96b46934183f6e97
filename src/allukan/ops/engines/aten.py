"""The closed form as plain operators of torch, nothing of our own: for ``torch.export``, ONNX and AOTInductor.

Each operator is differentiable, so this is, too, any number of times. But autograd keeps a dozen maps of the size of x, and sums
the gradient of the coefficients element by element in x's precision: the other implementations are for training.
"""

from __future__ import annotations

import torch
from torch import Tensor

from allukan.ops.activations import base_function
from allukan.ops.engines import reference
from allukan.ops.engines.layout import without_autocast
from allukan.ops.engines.pieces import horner, locate, piece_table
from allukan.ops.phi import Phi
from allukan.ops.tracing import sizes


@without_autocast
def forward(x: Tensor, coef: Tensor, base_weight: Tensor, phi: Phi) -> Tensor:
    """x ``(B, C, *S)``, coef ``(A, M)``, base_weight ``(A,)`` → ``(B, A·C/blocks, *S)``; see ``shared_spline``."""
    if phi.basis != "bspline":  # the reference knows every basis in torch's operators
        return reference.forward(x, coef, base_weight, phi)
    wide, coef, base_weight = _wide(x, coef, base_weight)
    seen = wide if phi.exact else wide.detach()
    if sizes(coef)[0] == 1:  # elementwise, any shape
        spline = horner(piece_table(coef[0], phi.spline_order), *locate(seen, phi))
        return (base_function(phi.base)(wide) * base_weight[0] + spline).to(x.dtype)
    activated = base_function(phi.base)(_blocks(wide, phi.blocks)) * _per_activation(base_weight, wide, phi.blocks)
    return (activated + splines(seen, coef, phi)).flatten(1, 3).to(x.dtype)


@without_autocast
def expand(x: Tensor, phi: Phi) -> Tensor:
    """x ``(B, C, *S)`` → ``(B, C, M + 1, *S)``; see ``basis_expansion``."""
    if phi.basis != "bspline":
        return reference.expand(x, phi)
    (wide,) = _wide(x)
    each = torch.eye(phi.coefficients, dtype=wide.dtype, device=x.device)
    values = splines(wide if phi.exact else wide.detach(), each, phi)[:, 0].transpose(1, 2)
    return torch.cat([base_function(phi.base)(wide).unsqueeze(2), values], dim=2).to(x.dtype)


def splines(x: Tensor, coef: Tensor, phi: Phi) -> Tensor:
    """Σ_m c_am B_m(x) of ``(B, C, *S)`` → ``(B, J, A/J, C/J, *S)`` in J blocks: one look-up in the tables of all."""
    table = piece_table(coef, phi.spline_order)  # (A, rows, k + 1)
    first = torch.arange(sizes(coef)[0], device=x.device) * sizes(table)[1]
    row, t = locate(_blocks(x, phi.blocks), phi)
    return horner(table.flatten(0, 1), row + _per_activation(first, x, phi.blocks), t)


def _wide(*tensors: Tensor) -> list[Tensor]:
    dtype = torch.promote_types(tensors[0].dtype, torch.float32)
    return [t.to(dtype) for t in tensors]


def _blocks(x: Tensor, blocks: int) -> Tensor:
    """``(B, C, *S)`` → ``(B, J, 1, C/J, *S)``."""
    return x.unflatten(1, (blocks, 1, sizes(x)[1] // blocks))


def _per_activation(values: Tensor, x: Tensor, blocks: int) -> Tensor:
    """``(A,)`` → ``(J, A/J, 1, *1)``, against the blocks of x."""
    return values.view(blocks, sizes(values)[0] // blocks, *[1] * (x.ndim - 1))
