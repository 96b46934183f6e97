"""The normalisation of a unit, normalise → φ → mix: by name or a module of torch, checked when the layer is built."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules import module as _module
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.instancenorm import _InstanceNorm

from allukan.ops import normalise
from allukan.ops.autograd import cached
from allukan.ops.layer import norm_functions
from allukan.ops.normalise import ChannelNorm, Norm, RowNorm, Running, Statistics
from allukan.ops.phi import Phi
from allukan.ops.tracing import jit_traced, sees_operators, sizes

BATCH: dict[int, type[nn.Module]] = {0: nn.BatchNorm1d, 1: nn.BatchNorm1d, 2: nn.BatchNorm2d, 3: nn.BatchNorm3d}
INSTANCE: dict[int, type[nn.Module]] = {1: nn.InstanceNorm1d, 2: nn.InstanceNorm2d, 3: nn.InstanceNorm3d}
_OF_ALL = (  # hooks of all modules
    *(_module._global_forward_hooks, _module._global_forward_pre_hooks),
    *(_module._global_backward_hooks, _module._global_backward_pre_hooks),
)
NORMS = ("batch", "instance", "group", "layer")


def make_norm(norm: str | nn.Module | None, channels: int, spatial_dims: int, **factory: Any) -> nn.Module | None:
    """The norm of ``(B, channels, *S)``, or of rows ``(N, channels)`` where ``spatial_dims`` is 0: a new one or the one given.

    "batch", "instance" (of a map, with scale and shift as all of them), "group" (the most groups up to 8 that divide the
    channels, of rows with 4 numbers or more each: one alone would always be 0, and of two only a sign is left) or "layer" (over
    the channels of every place); a module is one of torch's ``BatchNorm``, ``SyncBatchNorm``, ``InstanceNorm``, ``GroupNorm``
    and ``LayerNorm``. Raises ``ValueError`` for any other and for one that does not fit.

    >>> make_norm("group", 12, 2).num_groups
    6
    >>> make_norm(nn.LayerNorm(3), 4, 2)
    Traceback (most recent call last):
    ValueError: norm LayerNorm has 3 features and the layer 4 inputs
    """
    if norm is None:
        return None
    if isinstance(norm, nn.Module):
        _check(norm, channels, spatial_dims)
        return norm
    if norm not in NORMS:
        raise ValueError(f"unknown norm {norm!r}; choose one of {', '.join(NORMS)}, or give a module of torch")
    if norm == "instance":
        return _instance(spatial_dims)(channels, affine=True, **factory)
    if norm == "group":
        most = 8 if spatial_dims else max(1, min(8, channels // 4))
        return nn.GroupNorm(max(d for d in range(1, most + 1) if channels % d == 0), channels, **factory)
    return (nn.LayerNorm if norm == "layer" else BATCH[spatial_dims])(channels, **factory)


def normalised(norm: nn.Module | None, x: Tensor) -> Tensor:
    """x̂ ``(B, C, *S)`` or ``(N, C)`` of x alike, x itself without a norm; a layer norm is over the channels of every place."""
    if norm is None:
        return x
    return norm(x.movedim(1, -1)).movedim(-1, 1) if isinstance(norm, nn.LayerNorm) else norm(x)  # type: ignore[no-any-return]


def described(norm: nn.Module | None, x: Tensor, phi: Phi) -> Norm | None:
    """What the norm would do to x ``(B, C, *S)``, for the operation that does it on the way to φ.

    None where there is none, where the layer is made of separate operations anyway, and for norms that only their own code
    knows: of another class, with hooks, an instance norm that tracks.
    """
    if norm is None or _watched(norm) or not _fits(norm, sizes(x)[1]) or norm_functions(x, phi) is None:
        return None
    kind = type(norm).forward
    if kind is nn.LayerNorm.forward:
        return None if sees_operators() else Norm(RowNorm(norm.eps), norm.weight, norm.bias)  # type: ignore[arg-type]
    if kind is nn.GroupNorm.forward or (kind is _InstanceNorm.forward and not norm.track_running_stats):
        how = _channel_norm(_groups(norm, sizes(x)), True, norm.eps)  # type: ignore[arg-type]
        wanted = Norm(how, norm.weight, norm.bias)  # type: ignore[arg-type]
    elif kind is _BatchNorm.forward or kind is nn.SyncBatchNorm.forward:
        wanted = _of_batch(norm, x)  # type: ignore[arg-type]
    else:
        return None
    return _with_statistics(wanted, x) if sees_operators() else wanted


def _watched(norm: nn.Module) -> bool:
    """Whether somebody sees what goes in or comes out, or has put another ``forward`` in its place."""
    own = norm._forward_hooks or norm._forward_pre_hooks or norm._backward_hooks or norm._backward_pre_hooks
    return bool(own or _OF_ALL[0] or _OF_ALL[1] or _OF_ALL[2] or _OF_ALL[3] or "forward" in norm.__dict__)


def _fits(norm: nn.Module, channels: int) -> bool:
    """Whether it is for so many channels; if not, torch says so in its own words."""
    if _features(norm) != channels:
        return False
    own, buffers = norm._parameters, norm._buffers
    tensors = own.get("weight"), own.get("bias"), buffers.get("running_mean"), buffers.get("running_var")
    return jit_traced() or all(t is None or t.numel() == channels for t in tensors)  # to whom a size is a tensor


def _groups(norm: nn.Module, size: Sequence[int]) -> int:
    """Of a group norm; 0 for an instance norm. ``ValueError`` for what torch refuses: a statistic of one value."""
    if not isinstance(norm, nn.GroupNorm):
        F._verify_spatial_size(size)  # type: ignore[attr-defined]
        return 0
    F._verify_batch_size([size[0] * size[1] // norm.num_groups, norm.num_groups, *size[2:]])  # type: ignore[attr-defined]
    return norm.num_groups


def _of_batch(norm: _BatchNorm, x: Tensor) -> Norm:
    """With statistics of the batch, or in evaluation those of the training."""
    mean, var, gamma, beta = norm.running_mean, norm.running_var, norm.weight, norm.bias
    if not norm.training and mean is not None and var is not None:
        how = _channel_norm(0, False, norm.eps, fixed=True)
        return Norm(how, gamma, beta, Statistics(mean.unsqueeze(0), var.unsqueeze(0), 0))
    team = _team(norm)
    if team is None:
        F._verify_batch_size(sizes(x))  # type: ignore[attr-defined]
    how = _channel_norm(0, False, norm.eps) if team is None else ChannelNorm(0, False, norm.eps, team=team)
    if not (norm.training and norm.track_running_stats) or mean is None or var is None:
        return Norm(how, gamma, beta)
    return Norm(how, gamma, beta, None, Running(mean, var, _share(norm)))


_channel_norm = cached(ChannelNorm)


def _share(norm: _BatchNorm) -> float:
    """By how much this batch moves running statistics, as torch's: with momentum None to the mean over all batches."""
    if norm.num_batches_tracked is not None:
        norm.num_batches_tracked.add_(1)
        if norm.momentum is None:
            return 1 / float(norm.num_batches_tracked)
    return norm.momentum or 0.0


def _with_statistics(norm: Norm, x: Tensor) -> Norm:
    """For whoever sees operators: the statistics are some of them."""
    how, gamma, beta, found, running = norm
    if found is not None:
        return norm
    assert isinstance(how, ChannelNorm)
    found = normalise.statistics(x, how)
    if running is not None:
        with torch.no_grad():
            normalise.track(found, *running)
    return Norm(how, gamma, beta, found)


def _team(norm: nn.Module) -> Any:
    """The processes whose batches count as one, or None."""
    if not isinstance(norm, nn.SyncBatchNorm) or not norm.training or not dist.is_initialized():
        return None
    team = norm.process_group or dist.group.WORLD
    return team if dist.get_world_size(team) > 1 else None


def _instance(spatial_dims: int) -> type[nn.Module]:
    if not spatial_dims:
        raise ValueError("norm 'instance' needs a map to normalise over, which a linear layer has not; take 'layer'")
    return INSTANCE[spatial_dims]


def _check(norm: nn.Module, channels: int, spatial_dims: int) -> None:
    name = type(norm).__name__
    if isinstance(norm, _InstanceNorm):
        fitting: tuple[type[nn.Module], ...] = (_instance(spatial_dims),)
    else:
        fitting = (BATCH[spatial_dims], nn.SyncBatchNorm, nn.GroupNorm, nn.LayerNorm)
    if not isinstance(norm, fitting):
        where = f"a map of {spatial_dims} spatial dimensions" if spatial_dims else "a linear layer"
        raise ValueError(f"norm {name} does not fit {where}; it may be {', '.join(kind.__name__ for kind in fitting)}")
    if (features := _features(norm)) != channels:
        raise ValueError(f"norm {name} has {features} features and the layer {channels} inputs")


def _features(norm: Any) -> object:
    """How many channels the norm is for; the shape itself of a layer norm over more dimensions than one."""
    if isinstance(norm, nn.LayerNorm):
        return norm.normalized_shape[0] if len(norm.normalized_shape) == 1 else norm.normalized_shape
    return norm.num_channels if isinstance(norm, nn.GroupNorm) else norm.num_features
