"""``eager`` for every family of basis functions but the B-splines: closed form in plain torch, on any device.

One block of the feature map at a time, as these functions are not zero at most places: all M values of its elements exist
together, in the backward pass their slopes as well. Only x is saved; the coefficient gradient is the sum of the blocks' sums.
"""

from __future__ import annotations

import torch
from torch import Tensor

from allukan.ops.bases import base_derivative, base_function
from allukan.ops.basis import family
from allukan.ops.bspline import GridRange
from allukan.ops.shared_spline.blocks import blocks

_ON_A_GPU = 1 << 22  # values and slopes at once: 16 MiB of float32 each, so that a launch is worth its while


def forward(
    x: Tensor, coef: Tensor, base_weight: Tensor, grid_range: GridRange, spline_order: int, basis: str, base: str
) -> Tensor:
    """x ``(B, J, N)``, coef ``(J, R, M)``, base_weight ``(J, R)`` → ``(B, J, R, N)``; float32 arithmetic, float64 for float64."""
    dtype = torch.promote_types(x.dtype, torch.float32)
    (batch, groups, length), (_, per_group, count) = x.shape, coef.shape
    c, weight = coef.to(dtype).unsqueeze(2), base_weight.to(dtype).unsqueeze(2)  # (J, R, 1, M), (J, R, 1)
    out = x.new_empty(batch, groups, per_group, length)
    for rows, columns in blocks(batch, groups * count, length, _ON_A_GPU * x.is_cuda):
        block = x[rows, :, columns].to(dtype)
        values = family(basis).values(block, count - spline_order, spline_order, grid_range)
        activated = base_function(base)(block)
        for r in range(per_group):
            out[rows, :, r, columns] = (values * c[:, r]).sum(-1).addcmul_(activated, weight[:, r])
    return out


def backward(
    grad: Tensor,
    x: Tensor,
    coef: Tensor,
    base_weight: Tensor,
    grid_range: GridRange,
    spline_order: int,
    basis: str,
    base: str,
    exact: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of ``forward`` for x, coef and base_weight, from grad ``(B, J, R, N)`` and the inputs alone."""
    dtype = torch.promote_types(x.dtype, torch.float32)
    (batch, groups, length), (_, per_group, count) = x.shape, coef.shape
    grid = (count - spline_order, spline_order, grid_range)
    c, weight = coef.to(dtype).unsqueeze(2), base_weight.to(dtype).unsqueeze(2)
    grad_x = torch.empty_like(x, memory_format=torch.contiguous_format)
    grad_coef = torch.zeros(coef.shape, dtype=torch.float64, device=x.device)
    grad_weight = torch.zeros(base_weight.shape, dtype=torch.float64, device=x.device)
    for rows, columns in blocks(batch, groups * count, length, _ON_A_GPU * x.is_cuda):
        block = x[rows, :, columns].to(dtype)
        values = family(basis).values(block, *grid)
        slopes = family(basis).derivative(block, *grid) if exact else None
        activated, base_slope = base_function(base)(block), base_derivative(base)(block)
        total = torch.zeros_like(block)
        for r in range(per_group):
            g = grad[rows, :, r, columns].to(dtype)
            total += g * (base_slope * weight[:, r] + (0 if slopes is None else (slopes * c[:, r]).sum(-1)))
            grad_weight[:, r] += (g * activated).sum(dim=(0, 2))
            grad_coef[:, r] += (g.unsqueeze(-1) * values).sum(dim=(0, 2))
        grad_x[rows, :, columns] = total
    return grad_x, grad_coef.to(coef.dtype), grad_weight.to(base_weight.dtype)
