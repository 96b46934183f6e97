"""``normalise`` for CPUs as machine code: statistics, two numbers a channel, and the gradient of the input, one pass each."""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor

from allukan.ops import normalise
from allukan.ops.engines import native_channels as loops
from allukan.ops.engines.native_team import prepared, run, team_size
from allukan.ops.normalise import Affine, ChannelNorm, InputGradient, Statistics


def plain(tensor: Tensor) -> Tensor:
    """Float32, one element after the other."""
    return tensor if tensor.dtype is torch.float32 and tensor.is_contiguous() else tensor.detach().to(torch.float32).contiguous()


def statistics(x: Tensor, norm: ChannelNorm) -> Statistics:
    """See ``normalise.statistics``."""
    if norm.team is not None or not x.numel():
        return normalise.statistics(x, norm)
    values, (batch, channels), threads = plain(x.detach()), x.shape[:2], team_size(x.numel())
    groups, rows, inner = norm.groups or channels, batch if norm.samples else 1, x.numel() // (batch * channels)
    sums, found = room(x, threads), torch.empty(2, rows, groups)
    run("sum_channels", threads, _job(x.shape, 0), x=values.data_ptr(), row_sums=sums.data_ptr())
    loops.finish_statistics(
        sums.data_ptr(), threads, values.data_ptr(), found.data_ptr(), batch, channels, groups, norm.samples, inner
    )
    mean, var = found.unbind()
    return Statistics(mean, var, batch * channels * inner // (rows * groups))


def track(found: Statistics, mean: Tensor, var: Tensor, share: float) -> None:
    """See ``normalise.track``."""
    ours = (found.mean, found.var, mean, var)
    if all(t.dtype is torch.float32 and t.is_contiguous() for t in ours):
        loops.track(*(t.data_ptr() for t in ours), mean.numel(), share, found.of / max(1, found.of - 1))
        torch.autograd.graph.increment_version((mean, var))
    else:
        normalise.track(found, mean, var, share)


@cache
def _job(shape: torch.Size, period: int) -> bytes:
    """Of "sum_channels" and "mix_channels"."""
    inner = shape.numel() // (shape[0] * shape[1])
    return prepared(segments=1, length=shape.numel(), inner=inner, channels=shape[1], period=period)


def affine(found: Statistics, gamma: Tensor | None, beta: Tensor | None, norm: ChannelNorm, channels: int) -> Affine:
    """See ``normalise.affine``."""
    rows, groups = found.mean.shape
    out = torch.empty(3, rows, channels)
    given = [None if t is None else plain(t) for t in (found.mean, found.var, gamma, beta)]
    loops.fold(*(0 if t is None else t.data_ptr() for t in given), out.data_ptr(), rows, channels, groups, norm.eps)
    return Affine(out)


def input_gradient(sums: Tensor, found: Statistics, gamma: Tensor | None, norm: ChannelNorm, channels: int) -> InputGradient:
    """See ``normalise.input_gradient``; the parts are those of the threads."""
    rows, batch = found.mean.shape[0], sums.shape[1] // channels
    if norm.team is not None:
        return normalise.input_gradient(sums, found, gamma, norm, channels)
    mean, var, weights, parts = plain(found.mean), plain(found.var), None if gamma is None else plain(gamma), sums.double()
    out, of = torch.empty(3 * rows + 2, channels), 0 if norm.fixed else found.of
    where = (mean.data_ptr(), var.data_ptr(), *mean.shape, of)
    at = 0 if weights is None else weights.data_ptr()
    loops.finish_gradient(parts.data_ptr(), parts.shape[0], where, at, out.data_ptr(), batch, channels, norm.eps)
    own, along, level, of_parameters = out.split([rows, rows, rows, 2])
    return InputGradient(own, along, level, of_parameters[0], of_parameters[1])


def apply_gradient(g: Tensor, x: Tensor, how: InputGradient) -> Tensor:
    """See ``normalise.apply_gradient``; in place of g where it can be."""
    if how.along is None or how.level is None or not x.numel():  # of a fixed norm
        return normalise.apply_gradient(g, x, how)
    out, values = plain(g), plain(x)
    own, level, along = (t.contiguous() for t in (how.own, how.level, how.along))
    numbers = {"scale": own.data_ptr(), "shift": level.data_ptr(), "mean": along.data_ptr()}
    job = _job(x.shape, own.numel())
    run("mix_channels", team_size(x.numel()), job, x=values.data_ptr(), out=out.data_ptr(), **numbers)
    return out.to(x.dtype)


def room(x: Tensor, threads: int) -> Tensor:
    """For the sums a channel of every thread, ``(threads, B·C, 2)`` in float64."""
    return torch.zeros(threads, x.shape[0] * x.shape[1], 2, dtype=torch.float64)


def addresses(to: Affine | None, rows: Tensor | None = None) -> dict[str, int]:
    """Of a job, for a scale and a shift a channel."""
    if to is None:
        return {}
    at, step = to.numbers.data_ptr(), 4 * to.numbers.shape[1] * to.numbers.shape[2]
    sums = 0 if rows is None else rows.data_ptr()
    return {"scale": at, "shift": at + step, "mean": at + 2 * step, "row_sums": sums}
