"""``normalise`` for CPUs as machine code: statistics, two numbers a channel, and the gradient of the input, one pass each."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from allukan.ops import normalise
from allukan.ops.engines import native_channels as loops
from allukan.ops.engines.native_team import run, team_size
from allukan.ops.normalise import Affine, ChannelNorm, InputGradient, Statistics


def plain(tensor: Tensor) -> Tensor:
    """Float32, one element after the other."""
    return tensor if tensor.dtype is torch.float32 and tensor.is_contiguous() else tensor.detach().to(torch.float32).contiguous()


def statistics(x: Tensor, norm: ChannelNorm) -> Statistics:
    """See ``normalise.statistics``."""
    if norm.team is not None or not x.numel():
        return normalise.statistics(x, norm)
    values, (batch, channels), inner = plain(x.detach()), x.shape[:2], _inner(x)
    groups, rows = norm.groups or channels, batch if norm.samples else 1
    sums = np.zeros((team_size(x.numel()), batch * channels, 2))
    sizes = {"segments": 1, "length": x.numel(), "inner": inner, "channels": channels}
    run("sum_channels", len(sums), {"x": values.data_ptr(), "row_sums": sums.ctypes.data, **sizes})
    mean, var = torch.empty(rows, groups), torch.empty(rows, groups)
    loops.finish_statistics(
        sums, values.data_ptr(), mean.data_ptr(), var.data_ptr(), batch, channels, groups, norm.samples, inner
    )
    return Statistics(mean, var, batch * channels * inner // (rows * groups))


def affine(found: Statistics, gamma: Tensor | None, beta: Tensor | None, norm: ChannelNorm, channels: int) -> Affine:
    """See ``normalise.affine``."""
    rows, groups = found.mean.shape
    out = torch.empty(3, rows, channels)
    weights = [None if t is None else plain(t) for t in (gamma, beta, found.mean, found.var)]
    g, b, means, variances = (0 if t is None else t.data_ptr() for t in weights)
    loops.fold(means, variances, g, b, out.data_ptr(), rows, channels, groups, norm.eps)
    return Affine(*out.unbind())  # type: ignore[call-arg]


def input_gradient(sums: Tensor, found: Statistics, gamma: Tensor | None, norm: ChannelNorm, channels: int) -> InputGradient:
    """See ``normalise.input_gradient``; the parts are those of the threads."""
    rows, batch = len(found.mean), sums.shape[1] // channels
    if norm.team is not None:
        return normalise.input_gradient(sums, found, gamma, norm, channels)
    how, of_gamma, of_beta = torch.empty(3, rows, channels), torch.empty(channels), torch.empty(channels)
    mean, var, weights = plain(found.mean), plain(found.var), None if gamma is None else plain(gamma)
    addresses = (0 if weights is None else weights.data_ptr(), *(t.data_ptr() for t in (how, of_gamma, of_beta)))
    count = 0 if norm.fixed else found.of
    loops.finish_gradient(sums.double().numpy(), mean.numpy(), var.numpy(), count, norm.eps, *addresses, batch)
    own, along, level = how.unbind()
    return InputGradient(own, along, level, of_gamma, of_beta)


def apply_gradient(g: Tensor, x: Tensor, how: InputGradient) -> Tensor:
    """See ``normalise.apply_gradient``; in place of g where it can be."""
    if how.along is None or how.level is None or not x.numel():  # of a fixed norm
        return normalise.apply_gradient(g, x, how)
    out, values = plain(g), plain(x)
    parts = [t.contiguous() for t in (how.own, how.level, how.along)]
    own, level, along = (t.data_ptr() for t in parts)
    sizes = {"segments": 1, "length": x.numel(), "inner": _inner(x), "period": how.own.numel()}
    tensors = {"x": values.data_ptr(), "out": out.data_ptr(), "scale": own, "shift": level, "mean": along}
    run("mix_channels", team_size(x.numel()), {**tensors, **sizes})
    return out.to(x.dtype)


def room(x: Tensor, to: Affine | None) -> Tensor | None:
    """For the sums a channel of every thread, ``(threads, B·C, 2)`` in float64."""
    return None if to is None else torch.zeros(team_size(x.numel()), x.shape[0] * x.shape[1], 2, dtype=torch.float64)


def fields(x: Tensor, to: Affine | None, rows: Tensor | None = None) -> dict[str, int]:
    """Of a job, for a scale and a shift a channel."""
    if to is None:
        return {}
    scale, shift, mean = (t.data_ptr() for t in to)
    sums = 0 if rows is None else rows.data_ptr()
    return {"scale": scale, "shift": shift, "mean": mean, "row_sums": sums, "inner": _inner(x), "period": to.scale.numel()}


def _inner(x: Tensor) -> int:
    """Elements of a channel of a sample."""
    return x.numel() // (x.shape[0] * x.shape[1])
