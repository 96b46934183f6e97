"""The normalisation of a unit, normalise → φ → mix: by name or a module of torch, checked when the layer is built."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

BATCH: dict[int, type[nn.Module]] = {0: nn.BatchNorm1d, 1: nn.BatchNorm1d, 2: nn.BatchNorm2d, 3: nn.BatchNorm3d}
INSTANCE: dict[int, type[nn.Module]] = {1: nn.InstanceNorm1d, 2: nn.InstanceNorm2d, 3: nn.InstanceNorm3d}
NORMS = ("batch", "instance", "group", "layer")


def make_norm(norm: str | nn.Module | None, channels: int, spatial_dims: int, **factory: Any) -> nn.Module | None:
    """The norm of ``(B, channels, *S)``, or of rows ``(N, channels)`` where ``spatial_dims`` is 0: a new one or the one given.

    "batch", "instance" (of a map, with scale and shift as all of them), "group" (the most groups up to 8 that divide the
    channels) or "layer" (over the channels of every place); a module is one of torch's ``BatchNorm``, ``SyncBatchNorm``,
    ``InstanceNorm``, ``GroupNorm`` and ``LayerNorm``. Raises ``ValueError`` for any other and for one that does not fit.

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
        return nn.GroupNorm(max(d for d in range(1, 9) if channels % d == 0), channels, **factory)
    return (nn.LayerNorm if norm == "layer" else BATCH[spatial_dims])(channels, **factory)


def normalised(norm: nn.Module | None, x: Tensor) -> Tensor:
    """x̂ ``(B, C, *S)`` or ``(N, C)`` of x alike, x itself without a norm; a layer norm is over the channels of every place."""
    if norm is None:
        return x
    return norm(x.movedim(1, -1)).movedim(-1, 1) if isinstance(norm, nn.LayerNorm) else norm(x)  # type: ignore[no-any-return]


def _instance(spatial_dims: int) -> type[nn.Module]:
    if not spatial_dims:
        raise ValueError("norm 'instance' needs a map to normalise over, which a linear layer has not; take 'layer'")
    return INSTANCE[spatial_dims]


def _check(norm: nn.Module, channels: int, spatial_dims: int) -> None:
    name = type(norm).__name__
    if isinstance(norm, nn.modules.instancenorm._InstanceNorm):
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
