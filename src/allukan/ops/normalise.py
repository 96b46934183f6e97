"""Normalisation in front of φ: x̂ = (x - mean) / √(var + ε), u = γ x̂ + β, with nothing of the size of x kept but x.

A statistic belongs to a group of channels, of one sample or of the batch: batch normalisation has groups of one channel over the
batch, instance normalisation of one channel a sample, group normalisation of several a sample. So u = scale·x + shift with two
numbers a channel (and sample), which engines apply on the way to φ; here is the same in plain torch, on any device.

With g = ∂L/∂u, n elements a statistic and sums over them (Ioffe & Szegedy, arXiv 1502.03167, section 3):

    ∂L/∂x = γ/σ g - (Σ γ g)/(n σ) - x̂ (Σ γ g x̂)/(n σ),        ∂L/∂γ = Σ g x̂,        ∂L/∂β = Σ g
"""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor

_HERE = sys.modules[__name__]


@dataclass(frozen=True)
class ChannelNorm:
    """Which elements share a statistic.

    Attributes:
        groups: equal groups of channels with a statistic of their own; 0 is one a channel.
        samples: every sample has statistics of its own, not the batch.
        eps: added to the variance.
        fixed: the statistics are given (a trained network's), x has no part in them.
        team: process group whose batches count as one (SyncBatchNorm).
    """

    groups: int
    samples: bool
    eps: float
    fixed: bool = False
    team: Any = None


@dataclass(frozen=True)
class RowNorm:
    """Every place has statistics of its own, over all C channels (layer normalisation): dimension 1 of x ``(B, C, *S)``."""

    eps: float


class Statistics(NamedTuple):
    """``mean`` and biased ``var`` ``(B or 1, G)``, and how many elements one is ``of``."""

    mean: Tensor
    var: Tensor
    of: int


class Running(NamedTuple):
    """Statistics ``(G,)`` that move by this ``share`` to those of every batch, the variance to the unbiased one."""

    mean: Tensor
    var: Tensor
    share: float


class Norm(NamedTuple):
    """What stands in front of φ: how, and γ and β ``(C,)`` or None for 1 and 0.

    A ``ChannelNorm`` has the statistics that were ``found``, or finds those of x on the way and moves the ``running`` ones.
    """

    how: ChannelNorm | RowNorm
    gamma: Tensor | None
    beta: Tensor | None
    found: Statistics | None = None
    running: Running | None = None


class Affine(NamedTuple):
    """u = scale·x + shift, and the mean of x: ``(B or 1, C)`` each, together ``numbers`` ``(3, B or 1, C)``."""

    numbers: Tensor

    @property
    def scale(self) -> Tensor:
        """γ/σ."""
        return self.numbers[0]

    @property
    def shift(self) -> Tensor:
        """β - mean γ/σ."""
        return self.numbers[1]

    @property
    def mean(self) -> Tensor:
        """Of x."""
        return self.numbers[2]


def statistics(x: Tensor, norm: ChannelNorm) -> Statistics:
    """Of x ``(B, C, *S)``, in float32 at least; of the batches of all processes where ``norm.team`` is given."""
    wide, groups = x.to(torch.promote_types(x.dtype, torch.float32)), norm.groups or x.shape[1]
    if not x.numel():
        nothing = wide.new_zeros(len(x) if norm.samples else 1, groups)
        return Statistics(nothing, nothing, 0)
    split, dims = wide.reshape(len(x), groups, -1), (2,) if norm.samples else (0, 2)
    var, mean = torch.var_mean(split, dims, correction=0, keepdim=True)
    found = Statistics(mean[..., 0], var[..., 0], split.shape[2] * (1 if norm.samples else len(x)))
    return found if norm.team is None else _together(found, norm)


def track(found: Statistics, mean: Tensor, var: Tensor, share: float) -> None:
    """Move running statistics ``(G,)`` by this share to those of a batch that is not empty, the variance to the unbiased one."""
    if not found.of:
        return
    unbiased = found.var.detach() * (found.of / max(1, found.of - 1))
    mean.lerp_(found.mean.detach()[0].to(mean.dtype), share)
    var.lerp_(unbiased[0].to(var.dtype), share)


def _together(mine: Statistics, norm: ChannelNorm) -> Statistics:
    """Of all processes: means weighted by counts, variances within and between them (Chan et al., 1979)."""
    count = torch.full_like(mine.mean[:, :1], mine.of)
    packed = torch.cat([mine.mean, mine.var, count], dim=1)
    gathered = [torch.empty_like(packed) for _ in range(dist.get_world_size(norm.team))]
    dist.all_gather(gathered, packed, group=norm.team)
    means, variances, counts = torch.stack(gathered).split([mine.mean.shape[1], mine.var.shape[1], 1], dim=2)
    share = counts / counts.sum(0)
    mean = (share * means).sum(0)
    var = (share * (variances + (means - mean).square())).sum(0)
    return Statistics(mean, var, int(counts.sum()))


def affine(found: Statistics, gamma: Tensor | None, beta: Tensor | None, norm: ChannelNorm, channels: int) -> Affine:
    """γ/σ and β - mean γ/σ of every channel; γ and β ``(C,)`` or None for 1 and 0."""
    scale, mean = _per_channel((found.var + norm.eps).rsqrt(), channels), _per_channel(found.mean, channels)
    scale = scale if gamma is None else scale * gamma
    shift = -mean * scale
    return Affine(torch.stack([scale, (shift if beta is None else shift + beta).expand_as(scale), mean]))


def prepared(
    x: Tensor, gamma: Tensor | None, beta: Tensor | None, norm: ChannelNorm, running: Running | None, ours: Any = None
) -> tuple[Statistics, Affine]:
    """``statistics`` of x, ``track`` and ``affine``, all that φ needs to know: of ``ours``, another module with these three."""
    ours = ours or _HERE
    found = ours.statistics(x, norm)
    if running is not None:
        ours.track(found, *running)
    return found, ours.affine(found, gamma, beta, norm, x.shape[1])


def _per_channel(values: Tensor, channels: int) -> Tensor:
    """``(R, G)`` → ``(R, C)``."""
    return values if values.shape[1] == channels else values.repeat_interleave(channels // values.shape[1], dim=1)


def normalised(x: Tensor, to: Affine | None) -> Tensor:
    """u = scale·x + shift, in float32 at least; x itself without an affine."""
    if to is None:
        return x
    scale, shift = _over(to.scale, x), _over(to.shift, x)
    return torch.addcmul(shift, x.to(scale.dtype), scale)


def _over(values: Tensor, x: Tensor) -> Tensor:
    """``(R, C)`` against ``(B, C, *S)``."""
    return values.view(*values.shape, *[1] * (x.ndim - 2))


def channel_sums(g: Tensor, x: Tensor, mean: Tensor) -> Tensor:
    """Σ g and Σ g (x - mean) of every channel of every sample, ``(1, B·C, 2)``; mean ``(B or 1, C)``."""
    wide = g.to(mean.dtype).reshape(*x.shape[:2], math.prod(x.shape[2:]))
    sums = torch.stack([wide.sum(2), (wide * (x.reshape(wide.shape) - mean.unsqueeze(2))).sum(2)], dim=-1)
    return sums.view(1, -1, 2)


class InputGradient(NamedTuple):
    """∂L/∂x = own·g + along·x + level, each ``(B or 1, C)``, None where it is zero; and the gradients of γ and β ``(C,)``."""

    own: Tensor
    along: Tensor | None
    level: Tensor | None
    gamma: Tensor
    beta: Tensor


def input_gradient(sums: Tensor, found: Statistics, gamma: Tensor | None, norm: ChannelNorm, channels: int) -> InputGradient:
    """From the ``channel_sums`` of g = ∂L/∂u and x, ``(T, B·C, 2)``: those of T parts, which are added up."""
    rstd, mean = _per_channel((found.var + norm.eps).rsqrt(), channels), _per_channel(found.mean, channels)
    each = sums.sum(0).view(-1, channels, 2)
    total, along = (each if norm.samples else each.sum(0, keepdim=True)).to(rstd.dtype).unbind(2)
    along = along * rstd  # Σ g x̂
    own = rstd if gamma is None else rstd * gamma
    grads = along.sum(0), total.sum(0)
    if norm.fixed:
        return InputGradient(own, None, None, *grads)
    if norm.team is not None:
        total, along = _sum_of_all(torch.stack([total, along]), norm)
    by_group = [_group_sums(t if gamma is None else t * gamma, norm) / found.of for t in (total, along)]
    level, slope = (_per_channel(t, channels) for t in by_group)
    return InputGradient(own, -slope * rstd * rstd, (slope * rstd * mean - level) * rstd, *grads)


def _sum_of_all(sums: Tensor, norm: ChannelNorm) -> Tensor:
    dist.all_reduce(sums, group=norm.team)
    return sums


def _group_sums(values: Tensor, norm: ChannelNorm) -> Tensor:
    """``(R, C)`` → ``(R, G)``."""
    return values.unflatten(1, (norm.groups, -1)).sum(2) if norm.groups else values


def apply_gradient(g: Tensor, x: Tensor, how: InputGradient) -> Tensor:
    """∂L/∂x in x's dtype."""
    out = g * _over(how.own, x)
    if how.along is not None and how.level is not None:
        out = out + torch.addcmul(_over(how.level, x), x.to(how.along.dtype), _over(how.along, x))
    return out.to(x.dtype)


def returned(
    g: Tensor, sums: Tensor, x: Tensor, gamma: Tensor | None, found: Statistics, norm: ChannelNorm, ours: Any = None
) -> tuple[Tensor, Tensor, Tensor]:
    """``input_gradient`` and ``apply_gradient`` of ``ours`` likewise: the gradients of x, γ and β."""
    ours = ours or _HERE
    of_input = ours.input_gradient(sums, found, gamma, norm, x.shape[1])
    return ours.apply_gradient(g, x, of_input), of_input.gamma, of_input.beta


def rows_normalised(x: Tensor, gamma: Tensor | None, beta: Tensor | None, norm: RowNorm) -> tuple[Tensor, Tensor, Tensor]:
    """u, and the mean and 1/σ of every place of x ``(B, C, *S)``."""
    places = _wide_enough(x.movedim(1, -1), gamma)
    u, mean, rstd = torch.native_layer_norm(places, (x.shape[1],), gamma, beta, norm.eps)
    return u.movedim(-1, 1), mean, rstd


def rows_gradient(
    g: Tensor, x: Tensor, mean: Tensor, rstd: Tensor, gamma: Tensor | None, beta: Tensor | None
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """Gradients of x, γ and β from that of u."""
    wanted = [True, gamma is not None, beta is not None]
    places = _wide_enough(x.movedim(1, -1), gamma)
    grads = g.movedim(1, -1).to(places.dtype)
    backward = torch.ops.aten.native_layer_norm_backward.default
    grad_x, grad_gamma, grad_beta = backward(grads, places, (x.shape[1],), mean, rstd, gamma, beta, wanted)
    return grad_x.movedim(-1, 1).to(x.dtype), grad_gamma, grad_beta


def _wide_enough(x: Tensor, gamma: Tensor | None) -> Tensor:
    """x in the wider of its type and that of γ, as not every device mixes them."""
    return x if gamma is None else x.to(torch.promote_types(x.dtype, gamma.dtype))
