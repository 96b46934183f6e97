"""``normalise`` for CUDA as Triton kernels: one pass over x for the statistics and one for its gradient, no atomics.

What is not every training step's (statistics of several processes, given ones) is ``normalise`` itself.
"""

from __future__ import annotations

import sys
from functools import partial

import torch
from torch import Tensor

from allukan.ops import normalise
from allukan.ops.engines import layout, triton_tiles
from allukan.ops.engines import triton_channels as channel_kernels
from allukan.ops.engines import triton_statistics as number_kernels
from allukan.ops.engines.triton_tiles import LAUNCH
from allukan.ops.normalise import Affine, ChannelNorm, InputGradient, Statistics

track = normalise.track
prepared = partial(normalise.prepared, ours=sys.modules[__name__])
returned = partial(normalise.returned, ours=sys.modules[__name__])

_TILE = 1024
_BLOCK = 128  # channels of a program that has no group
_ROWS = 16  # samples that a program takes at a time


def statistics(x: Tensor, norm: ChannelNorm) -> Statistics:
    """See ``normalise.statistics``."""
    if norm.team is not None or not x.numel():
        return normalise.statistics(x, norm)
    x, last = layout.in_lines(x, 1)
    lines = triton_tiles.lines(x, 1, 1, last, _TILE, programs=8)
    (batch, channels, places), rows, groups = lines.sizes, len(x) if norm.samples else 1, norm.groups or x.shape[1]
    parts = x.new_empty(lines.runs, batch, channels, 2, dtype=triton_tiles.accurate(x))
    mean, var = parts.new_empty(2, rows, groups).unbind()
    inner = places if norm.samples else batch * places
    with torch.cuda.device_of(x):
        channel_kernels.sum_channels_kernel[lines.groups * lines.runs,](
            x, parts, *lines.sizes, lines.steps, **lines.shape, **LAUNCH
        )
        sums, (shape, programs) = parts.sum(0 if norm.samples else (0, 1)), _columns(channels, groups)
        reach = 1 if last else places
        number_kernels.statistics_kernel[programs, rows](
            sums, x, mean, var, channels, channels // groups, reach, inner, **shape, **LAUNCH
        )
    return Statistics(mean, var, inner * channels // groups)


def affine(found: Statistics, gamma: Tensor | None, beta: Tensor | None, norm: ChannelNorm, channels: int) -> Affine:
    """See ``normalise.affine``."""
    rows, groups = found.mean.shape
    mean, var = (t.to(triton_tiles.accurate(t)).contiguous() for t in found[:2])  # a network in half precision keeps its in half
    numbers, count = mean.new_empty(3, rows, channels), rows * channels
    weights = (None if t is None else t.contiguous() for t in (gamma, beta))
    if count:
        with torch.cuda.device_of(found.mean):
            number_kernels.affine_kernel[triton_tiles.cdiv(count, _BLOCK),](
                mean, var, *weights, *numbers.unbind(), count, channels, channels // groups, EPS=norm.eps, BLOCK=_BLOCK, **LAUNCH
            )
    return Affine(numbers)


def input_gradient(sums: Tensor, found: Statistics, gamma: Tensor | None, norm: ChannelNorm, channels: int) -> InputGradient:
    """See ``normalise.input_gradient``."""
    if norm.team is not None or norm.fixed or not sums.numel() or not found.of:
        return normalise.input_gradient(sums, found, gamma, norm, channels)
    rows, groups = found.mean.shape
    parts = sums.view(len(sums), -1, channels, 2).sum(0 if norm.samples else (0, 1))
    how, grads = parts.new_empty(3, rows, channels).unbind(), parts.new_empty(2, channels).unbind()
    tensors = (None if t is None else t.contiguous() for t in (found.mean, found.var, gamma))
    shape, programs = _columns(channels, groups)
    with torch.cuda.device_of(sums):
        number_kernels.input_gradient_kernel[programs,](
            parts, *tensors, *how, *grads, rows, channels, channels // groups, found.of,
            EPS=norm.eps, ROWS=min(_ROWS, triton_tiles.next_power_of_2(rows)), **shape, **LAUNCH,
        )  # fmt: skip
    return InputGradient(*how, *grads)


def apply_gradient(g: Tensor, x: Tensor, how: InputGradient) -> Tensor:
    """See ``normalise.apply_gradient``; in place of g where it can be."""
    if how.along is None or how.level is None or not x.numel():  # of a fixed norm
        return normalise.apply_gradient(g, x, how)
    x, last = layout.in_lines(x, 1)
    g = g.movedim(1, -1).contiguous().movedim(-1, 1) if last else g.contiguous()
    out = g if g.dtype is x.dtype else torch.empty_like(x)
    lines = triton_tiles.lines(x, 1, 1, last, _TILE, programs=1)
    numbers = (t.contiguous() for t in (how.own, how.along, how.level))
    own = x.shape[1] if len(how.own) > 1 else 0
    with torch.cuda.device_of(x):
        channel_kernels.mix_channels_kernel[lines.groups * lines.across,](
            g, x, *numbers, out, *lines.sizes, own, **lines.shape, **LAUNCH
        )
    return out


def _columns(channels: int, groups: int) -> tuple[dict[str, int], int]:
    """What kernels of numbers know of the groups when they are compiled, and their programs."""
    if groups < channels:
        return {"COLS": triton_tiles.next_power_of_2(channels // groups), "GROUPED": True}, groups
    block = min(_BLOCK, triton_tiles.next_power_of_2(channels))
    return {"COLS": block, "GROUPED": False}, triton_tiles.cdiv(channels, block)
