"""The closed form as plain operators of torch, nothing of our own: for ``torch.export``, ONNX and AOTInductor.

Each operator is differentiable, so this is, too, any number of times. But autograd keeps a dozen maps of the size of x, and sums
the gradient of the coefficients element by element in x's precision: the other implementations are for training.
"""

from __future__ import annotations

import torch
from torch import Tensor

from allukan.ops import bspline
from allukan.ops.bases import base_function
from allukan.ops.basis import family
from allukan.ops.shared_spline.eager import horner, locate, piece_table
from allukan.ops.shared_spline.layout import without_autocast
from allukan.ops.shared_spline.reference import shared_spline_reference
from allukan.ops.tracing import sizes


@without_autocast
def shared_spline_aten(
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
    """x ``(B, C, *S)``, coef ``(A, M)``, base_weight ``(A,)`` → ``(B, A·C/blocks, *S)``; see ``shared_spline``."""
    if basis != "bspline":  # the reference knows every basis in torch's operators
        return shared_spline_reference(x, coef, base_weight, grid_range, spline_order, basis, base, input_grad, blocks)
    wide, coef, base_weight = _wide(x, coef, base_weight)
    seen = wide if input_grad == "exact" else wide.detach()
    activations, count = sizes(coef)
    if activations == 1:  # elementwise, any shape
        table = piece_table(coef[0], spline_order)
        spline = horner(table, *locate(seen, count - spline_order, spline_order, grid_range))
        return (base_function(base)(wide) * base_weight[0] + spline).to(x.dtype)
    activated = base_function(base)(_runs(wide, blocks)) * _per_activation(base_weight, wide, blocks)
    return (activated + splines(seen, coef, spline_order, grid_range, blocks)).flatten(1, 3).to(x.dtype)


@without_autocast
def basis_expansion_aten(
    x: Tensor, grid_size: int, spline_order: int, grid_range: bspline.GridRange, basis: str, base: str, input_grad: str
) -> Tensor:
    """x ``(B, C, *S)`` → ``(B, C, M + 1, *S)``; see ``basis_expansion``."""
    (wide,) = _wide(x)
    seen = wide if input_grad == "exact" else wide.detach()
    if basis == "bspline":
        each = torch.eye(grid_size + spline_order, dtype=wide.dtype, device=x.device)
        values = splines(seen, each, spline_order, grid_range, 1)[:, 0].transpose(1, 2)
    else:
        values = family(basis).values(seen, grid_size, spline_order, grid_range).movedim(-1, 2)
    return torch.cat([base_function(base)(wide).unsqueeze(2), values], dim=2).to(x.dtype)


def splines(x: Tensor, coef: Tensor, spline_order: int, grid_range: bspline.GridRange, blocks: int) -> Tensor:
    """Σ_m c_am B_m(x) of ``(B, C, *S)`` → ``(B, J, A/J, C/J, *S)`` in J = ``blocks`` runs: one look-up in the tables of all."""
    table, (activations, count) = piece_table(coef, spline_order), sizes(coef)  # (A, rows, k + 1)
    first = torch.arange(activations, device=x.device) * sizes(table)[1]
    row, t = locate(_runs(x, blocks), count - spline_order, spline_order, grid_range)
    return horner(table.flatten(0, 1), row + _per_activation(first, x, blocks), t)


def _wide(*tensors: Tensor) -> list[Tensor]:
    dtype = torch.promote_types(tensors[0].dtype, torch.float32)
    return [t.to(dtype) for t in tensors]


def _runs(x: Tensor, blocks: int) -> Tensor:
    """``(B, C, *S)`` → ``(B, J, 1, C/J, *S)``."""
    return x.unflatten(1, (blocks, 1, sizes(x)[1] // blocks))


def _per_activation(values: Tensor, x: Tensor, blocks: int) -> Tensor:
    """``(A,)`` → ``(J, A/J, 1, *1)``, against the runs of x."""
    return values.view(blocks, sizes(values)[0] // blocks, *[1] * (x.ndim - 1))
