"""Forward and backward for CPUs as machine code, compiled by numba at first use: no compiler has to be installed.

One pass over the data each, without a temporary, normalisation in front of φ included. Each thread keeps sums of its own, added
up in a fixed order.
"""

from __future__ import annotations

import torch
from torch import Tensor

from allukan.ops import normalise
from allukan.ops.engines import layout, native_norm, native_unit
from allukan.ops.engines import native_kernels as kernels
from allukan.ops.engines.curves import MAX_ROWS, rows_needed
from allukan.ops.engines.layout import Gradients
from allukan.ops.engines.native_jobs import expansion_job, job, scattered
from allukan.ops.engines.native_norm import address, plain, room, thirds
from allukan.ops.engines.native_team import run, team_size
from allukan.ops.normalise import Affine
from allukan.ops.phi import Phi

CHANNELS_LAST = False
NORM = native_norm
UNIT = native_unit
_MAX_ORDER = 3  # of B-splines: cubics
_NONE = (0, 0, 0)
_dense = torch.ops.aten.is_non_overlapping_and_dense.default


def obstacle(phi: Phi, device: str, dtype: torch.dtype) -> str | None:
    """What these loops cannot compute."""
    if device != "cpu":
        return f"it runs on a CPU and x is on {device}"
    if dtype == torch.float64:
        return f"it computes in float32 and x is {dtype}"
    if phi.basis == "bspline" and phi.spline_order > _MAX_ORDER:
        return f"spline_order {phi.spline_order} is above {_MAX_ORDER}"
    if rows_needed(phi.grid, phi.basis, phi.base) > MAX_ROWS:
        grid = f"grid_range {phi.grid_range} with {phi.grid_size} intervals"
        return f"{grid} and base {phi.base} would need a table of more than {MAX_ROWS} rows"
    return None


def forward(x: Tensor, coef: Tensor, base_weight: Tensor, phi: Phi, to: Affine | None = None) -> Tensor:
    """φ(x), ``(B, C, *S)`` → ``(B, A·C/J, *S)``: for what lies well in memory no view, no copy, one call into compiled code."""
    if not x.numel():
        return layout.output_like(x, coef, phi.blocks, CHANNELS_LAST)
    if scattered(x, coef, phi.blocks):
        return _scatter(forward(_gathered(normalise.normalised(x, to), phi.blocks), coef, base_weight, phi), x).to(x.dtype)
    values, c, w = _readable(x, coef) if to is None else plain(x), plain(coef), plain(base_weight)
    activations = c.shape[0]
    out = torch.empty_like(values) if activations == 1 else values.new_empty(*_channels(x, activations // phi.blocks))
    numbers = _NONE if to is None else thirds(to.numbers)
    kind = job(phi, x.shape, activations, _period(to))
    run("forward", team_size(out.numel()), kind, values.data_ptr(), 0, out.data_ptr(), c.data_ptr(), w.data_ptr(), 0, numbers)
    return out if out.dtype is x.dtype else out.to(x.dtype)


def backward(grad: Tensor, x: Tensor, coef: Tensor, base_weight: Tensor, phi: Phi, to: Affine | None = None) -> Gradients:
    """The gradients of ``forward`` likewise; with ``to`` that of φ's argument, and its sums a channel."""
    if not x.numel():
        nothing = layout.gradient_like(x, coef, phi.blocks, CHANNELS_LAST)
        sums = None if to is None else normalise.channel_sums(nothing, x, to.mean)
        return nothing, torch.zeros_like(coef), torch.zeros_like(base_weight), sums
    if scattered(x, coef, phi.blocks):
        parts = (_gathered(grad, phi.blocks), _gathered(normalise.normalised(x, to), phi.blocks))
        inner, *others, _ = backward(*parts, coef, base_weight, phi)
        grad_x = _scatter(inner, x)
        return grad_x.to(x.dtype), *others, None if to is None else normalise.channel_sums(grad_x, x, to.mean)  # type: ignore[return-value]
    values, c, w = _readable(x, coef) if to is None else plain(x), plain(coef), plain(base_weight)
    activations, count = c.shape
    g = _in_order_of(values, grad) if activations == 1 else plain(grad)
    threads = team_size(x.numel() * activations // phi.blocks)
    out, rows = torch.empty_like(values), None if to is None else room(x, threads)
    sums = torch.zeros(threads, activations, count + 1, dtype=torch.float64, device="cpu")  # whatever the default is
    numbers = _NONE if to is None else thirds(to.numbers)
    maps, theta = (values.data_ptr(), g.data_ptr(), out.data_ptr()), (c.data_ptr(), w.data_ptr(), sums.data_ptr())
    run("backward", threads, job(phi, x.shape, activations, _period(to)), *maps, *theta, numbers, address(rows))
    grad_coef, grad_weight = torch.empty_like(c), torch.empty_like(w)
    kernels.finish(sums.data_ptr(), *sums.shape, grad_coef.data_ptr(), grad_weight.data_ptr())
    if x.dtype is coef.dtype is base_weight.dtype is torch.float32:
        return out, grad_coef, grad_weight, rows
    return out.to(x.dtype), grad_coef.to(coef.dtype), grad_weight.to(base_weight.dtype), rows


def expand(x: Tensor, phi: Phi) -> Tensor:
    """b and all M basis functions, ``(B, C, *S)`` → ``(B, C, M + 1, *S)``."""
    values = plain(x)
    out = values.new_empty(*x.shape[:2], phi.coefficients + 1, *x.shape[2:])
    if out.numel():
        kind = expansion_job(phi, x.shape, "columns")
        run("expand", team_size(out.numel()), kind, values.data_ptr(), out=out.data_ptr())
    return out.to(x.dtype)


def expand_backward(grad: Tensor, x: Tensor, phi: Phi) -> Tensor:
    """Gradient of ``expand`` for x, from grad ``(B, C, M + 1, *S)``."""
    values, g = plain(x), plain(grad)
    out = torch.empty_like(values)
    if out.numel():
        kind = expansion_job(phi, x.shape, "slopes")
        run("expand_backward", team_size(g.numel()), kind, values.data_ptr(), g.data_ptr(), out.data_ptr())
    return out.to(x.dtype)


def _period(to: Affine | None) -> int:
    return 0 if to is None else to.numbers.stride(0)


def _channels(x: Tensor, times: int) -> tuple[int, ...]:
    return x.shape[0], times * x.shape[1], *x.shape[2:]


def _readable(x: Tensor, coef: Tensor) -> Tensor:
    """x in float32 as the loops can read it; one activation takes any order of memory that has no gaps."""
    if coef.shape[0] > 1:
        return plain(x)
    if x.dtype is torch.float32 and (x.is_contiguous() or _dense(x)):
        return x
    return torch.empty_like(x, dtype=torch.float32).copy_(x)


def _gathered(x: Tensor, blocks: int) -> Tensor:
    """``(B, C, *S)`` → ``(1, J, N)``: a run an activation."""
    return x.reshape(len(x), blocks, -1).transpose(0, 1).contiguous().view(1, blocks, -1)


def _scatter(gathered: Tensor, like: Tensor) -> Tensor:
    """The inverse."""
    return gathered.view(gathered.shape[1], len(like), -1).transpose(0, 1).contiguous().view(like.shape)


def _in_order_of(x: Tensor, grad: Tensor) -> Tensor:
    """The same float32 values, in the order of memory of x."""
    if grad.dtype is torch.float32 and grad.stride() == x.stride():
        return grad
    return torch.empty_like(x).copy_(grad.reshape(x.shape))
