"""``normalise`` for CPUs as machine code: statistics, two numbers a channel, and the gradient of the input, one pass each."""

from __future__ import annotations

import sys
from functools import cache

import torch
from torch import Tensor

from allukan.ops import normalise
from allukan.ops.engines import native_channels as loops
from allukan.ops.engines.native_team import packed, run, team_size
from allukan.ops.normalise import Affine, ChannelNorm, InputGradient, Running, Statistics

_HERE = sys.modules[__name__]


def is_plain(tensor: Tensor) -> bool:
    """Whether it is float32, one element after the other."""
    return tensor.dtype is torch.float32 and tensor.is_contiguous()


def plain(tensor: Tensor) -> Tensor:
    """The same values so."""
    return tensor if is_plain(tensor) else tensor.detach().to(torch.float32).contiguous()


def _floats(*shape: int) -> Tensor:
    """Room, whatever the default type and device are."""
    return torch.empty(shape, dtype=torch.float32, device="cpu")


def address(tensor: Tensor | None) -> int:
    """Of its first element, 0 for none."""
    return 0 if tensor is None else tensor.data_ptr()


def statistics(x: Tensor, norm: ChannelNorm) -> Statistics:
    """See ``normalise.statistics``."""
    if norm.team is not None or not x.numel():
        return normalise.statistics(x, norm)
    values, sums, found, sizes = _summed(x, norm)
    loops.finish_statistics(sums.data_ptr(), sizes[0], values.data_ptr(), found.data_ptr(), *sizes[1:])
    return _statistics(found, x)


def prepared(
    x: Tensor, gamma: Tensor | None, beta: Tensor | None, norm: ChannelNorm, running: Running | None
) -> tuple[Statistics, Affine]:
    """See ``normalise.prepared``: one call for all that follows the sums."""
    tracked = () if running is None else running[:2]
    if norm.team is not None or not x.numel() or not all(is_plain(t) for t in (*tracked, gamma, beta) if t is not None):
        return normalise.prepared(x, gamma, beta, norm, running, _HERE)
    values, sums, found, sizes = _summed(x, norm)
    numbers = _floats(3, found.shape[1], x.shape[1])
    addresses = (sums.data_ptr(), values.data_ptr(), found.data_ptr(), numbers.data_ptr())
    moving = (0, 0, 0.0) if running is None else (running.mean.data_ptr(), running.var.data_ptr(), running.share)
    loops.settle(addresses, (address(gamma), address(beta)), moving, sizes, norm.eps)
    if running is not None:
        torch.autograd.graph.increment_version(tracked)
    return _statistics(found, x), Affine(numbers)


def _summed(x: Tensor, norm: ChannelNorm) -> tuple[Tensor, Tensor, Tensor, tuple[int, int, int, int, bool, int]]:
    """x, its sums a channel, room for the statistics, and threads, batch, channels, groups, samples and inner."""
    values, size, threads = plain(x), x.shape, team_size(x.numel())
    batch, channels, groups = size[0], size[1], norm.groups or size[1]
    sums = room(x, threads)
    run("sum_channels", threads, _job(size, 0), values.data_ptr(), row_sums=sums.data_ptr())
    found = _floats(2, batch if norm.samples else 1, groups)
    return values, sums, found, (threads, batch, channels, groups, norm.samples, size.numel() // (batch * channels))


def _statistics(found: Tensor, x: Tensor) -> Statistics:
    mean, var = found.unbind()
    return Statistics(mean, var, 2 * x.numel() // found.numel())


def track(found: Statistics, mean: Tensor, var: Tensor, share: float) -> None:
    """See ``normalise.track``."""
    ours = (found.mean, found.var, mean, var)
    if found.of and all(is_plain(t) for t in ours):
        loops.track(*(t.data_ptr() for t in ours), mean.numel(), share, found.of / max(1, found.of - 1))
        torch.autograd.graph.increment_version((mean, var))
    else:
        normalise.track(found, mean, var, share)


@cache
def _job(shape: torch.Size, period: int) -> bytes:
    """Of "sum_channels" and "mix_channels"."""
    inner = shape.numel() // (shape[0] * shape[1])
    return packed(segments=1, length=shape.numel(), inner=inner, channels=shape[1], period=period)


def affine(found: Statistics, gamma: Tensor | None, beta: Tensor | None, norm: ChannelNorm, channels: int) -> Affine:
    """See ``normalise.affine``."""
    rows, groups = found.mean.shape
    out = _floats(3, rows, channels)
    given = [None if t is None else plain(t) for t in (found.mean, found.var, gamma, beta)]
    loops.fold(*map(address, given), out.data_ptr(), rows, channels, groups, norm.eps)
    return Affine(out)


def input_gradient(sums: Tensor, found: Statistics, gamma: Tensor | None, norm: ChannelNorm, channels: int) -> InputGradient:
    """See ``normalise.input_gradient``; the parts are those of the threads."""
    if norm.team is not None:
        return normalise.input_gradient(sums, found, gamma, norm, channels)
    out, of_parameters = _floats(3, len(found.mean), channels), _floats(2, channels)
    _finish(sums, found, gamma, norm, out, *of_parameters.unbind())
    return InputGradient(*out.unbind(), *of_parameters.unbind())


def returned(
    g: Tensor, sums: Tensor, x: Tensor, gamma: Tensor | None, found: Statistics, norm: ChannelNorm
) -> tuple[Tensor, Tensor, Tensor]:
    """See ``normalise.returned``."""
    if norm.team is not None or norm.fixed or not x.numel():
        return normalise.returned(g, sums, x, gamma, found, norm, _HERE)
    channels = x.shape[1]
    numbers, grad_gamma, grad_beta = _floats(3, len(found.mean), channels), _floats(channels), _floats(channels)
    _finish(sums, found, gamma, norm, numbers, grad_gamma, grad_beta)
    own, along, level = thirds(numbers)
    return _mixed(g, x, (own, level, along), numbers.stride(0)), grad_gamma, grad_beta


def _finish(sums: Tensor, found: Statistics, gamma: Tensor | None, norm: ChannelNorm, numbers: Tensor, *grads: Tensor) -> None:
    """own, along and level of the gradient of x into ``numbers``, and the gradients of γ and β."""
    grad_gamma, grad_beta = grads
    mean, var, weights, parts = plain(found.mean), plain(found.var), None if gamma is None else plain(gamma), sums.double()
    channels = grad_gamma.numel()
    where = (mean.data_ptr(), var.data_ptr(), *mean.shape, 0 if norm.fixed else found.of)
    out = (numbers.data_ptr(), grad_gamma.data_ptr(), grad_beta.data_ptr())
    loops.finish_gradient(
        parts.data_ptr(), parts.shape[0], where, address(weights), out, parts.shape[1] // channels, channels, norm.eps
    )


def apply_gradient(g: Tensor, x: Tensor, how: InputGradient) -> Tensor:
    """See ``normalise.apply_gradient``; in place of g where it can be."""
    if how.along is None or how.level is None or not x.numel():  # of a fixed norm
        return normalise.apply_gradient(g, x, how)
    own, level, along = (t.contiguous() for t in (how.own, how.level, how.along))
    return _mixed(g, x, (own.data_ptr(), level.data_ptr(), along.data_ptr()), own.numel())


def _mixed(g: Tensor, x: Tensor, addresses: tuple[int, int, int], period: int) -> Tensor:
    out, values = plain(g), plain(x)
    run("mix_channels", team_size(x.numel()), _job(x.shape, period), values.data_ptr(), out=out.data_ptr(), to=addresses)
    return out if out.dtype is x.dtype else out.to(x.dtype)


def room(x: Tensor, threads: int) -> Tensor:
    """For the sums a channel of every thread, ``(threads, B·C, 2)`` in float64."""
    return torch.zeros(threads, x.shape[0] * x.shape[1], 2, dtype=torch.float64, device="cpu")


def thirds(numbers: Tensor) -> tuple[int, int, int]:
    """Where the three of ``(3, rows, C)`` begin."""
    first, step = numbers.data_ptr(), 4 * numbers.stride(0)
    return first, first + step, first + 2 * step
