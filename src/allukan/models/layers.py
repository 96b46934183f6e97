"""One recipe builds the network and its twins: every convolution and linear layer comes from here."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch.nn.functional as F
from torch import Tensor, nn

from allukan.nn import (
    KAConv1d,
    KAConv2d,
    KAConv3d,
    KALinear,
    Spline,
    StackedKANConv1d,
    StackedKANConv2d,
    StackedKANConv3d,
    StackedKANLinear,
)
from allukan.ops.activations import base_function
from allukan.ops.tracing import jit_traced

_CONVOLUTIONS: dict[int, type[nn.Module]] = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
_KA_CONVOLUTIONS = {1: KAConv1d, 2: KAConv2d, 3: KAConv3d}
_STACKED_CONVOLUTIONS = {1: StackedKANConv1d, 2: StackedKANConv2d, 3: StackedKANConv3d}
_BATCH_NORMS: dict[int, type[nn.Module]] = {1: nn.BatchNorm1d, 2: nn.BatchNorm2d, 3: nn.BatchNorm3d}
_INSTANCE_NORMS: dict[int, type[nn.Module]] = {1: nn.InstanceNorm1d, 2: nn.InstanceNorm2d, 3: nn.InstanceNorm3d}
LAYERS = ("ka", "conv", "edge", "stacked")
NORMS = ("batch", "instance", "group")


class Activation(nn.Module):
    """The fixed activation of the convolutional twin: the base activation that the KA layers build on."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name, self._function = name, base_function(name)

    def forward(self, x: Tensor) -> Tensor:
        """Any shape → the same shape."""
        return self._function(x)

    def extra_repr(self) -> str:
        """The name of the function."""
        return self.name


@dataclass(frozen=True)
class Layers:
    """Makes the layers of one network.

    ``layer="ka"``, ``"edge"`` and ``"stacked"`` give [KA layer, norm]: the activation φ sits inside the next KA layer, right
    after the norm. ``layer="conv"`` gives [conv, norm, activation]. So all have the same layers in the same places. "edge" and
    "stacked" are the same function, one spline an edge: computed as KAConv does, and the ordinary way.
    """

    spatial_dims: int
    layer: str
    spline: Spline
    norm: str

    def __post_init__(self) -> None:
        for name, allowed in (("layer", LAYERS), ("norm", NORMS), ("spatial_dims", (1, 2, 3))):
            if getattr(self, name) not in allowed:
                raise ValueError(f"unknown {name} {getattr(self, name)!r}; choose one of {', '.join(map(str, allowed))}")
        if self.layer in ("edge", "stacked"):
            object.__setattr__(self, "spline", replace(self.spline, sharing="edge"))

    def conv(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        *,
        stride: int = 1,
        groups: int = 1,
        bias: bool = False,
        image: bool = False,
    ) -> nn.Module:
        """A convolution with "same"-like padding; ``image=True`` where it sees raw intensities: then the base is the identity."""
        options = {"stride": stride, "padding": kernel_size // 2, "groups": groups, "bias": bias}
        if self.layer == "conv":
            return _CONVOLUTIONS[self.spatial_dims](in_channels, out_channels, kernel_size, **options)
        spline = self.spline.fitting(out_channels)
        spline = replace(spline, base="identity") if image else spline
        convolutions = _STACKED_CONVOLUTIONS if self.layer == "stacked" else _KA_CONVOLUTIONS
        return convolutions[self.spatial_dims](in_channels, out_channels, kernel_size, spline=spline, **options)  # type: ignore[arg-type]

    def linear(self, in_features: int, out_features: int) -> nn.Module:
        """A linear layer on the last dimension, without bias: a norm follows."""
        if self.layer == "conv":
            return nn.Linear(in_features, out_features, bias=False)
        linear = StackedKANLinear if self.layer == "stacked" else KALinear
        return linear(in_features, out_features, bias=False, spline=self.spline.fitting(out_features))

    def after(self, channels: int) -> list[nn.Module]:
        """What follows a layer: the norm, and for the convolutional twin the activation."""
        return [self.make_norm(channels), *([Activation(self.spline.base)] if self.layer == "conv" else [])]

    def make_norm(self, channels: int) -> nn.Module:
        """The normalisation of ``(B, channels, *S)``."""
        if self.norm == "group":
            return nn.GroupNorm(max(d for d in range(1, 9) if channels % d == 0), channels)
        if self.norm == "instance":
            return _INSTANCE_NORMS[self.spatial_dims](channels, affine=True)
        return _BATCH_NORMS[self.spatial_dims](channels)

    def unit(self, in_channels: int, out_channels: int, kernel_size: int = 3, **options: int | bool) -> nn.Sequential:
        """Layer, norm and, for the convolutional twin, activation."""
        return nn.Sequential(self.conv(in_channels, out_channels, kernel_size, **options), *self.after(out_channels))  # type: ignore[arg-type]

    def shortcut(self, in_channels: int, out_channels: int, image: bool = False) -> nn.Module:
        """The way around a residual stage: nothing, or a 1×1 layer and a norm where the channels change."""
        if in_channels == out_channels:
            return nn.Identity()
        return nn.Sequential(self.conv(in_channels, out_channels, 1, image=image), self.make_norm(out_channels))

    def mixer(self, channels: int) -> nn.Sequential:
        """What follows a linear layer of a token block: norm, depthwise 3×3, norm."""
        return nn.Sequential(*self.after(channels), *self.unit(channels, channels, groups=channels))

    def embedding(self, in_channels: int, out_channels: int) -> nn.Sequential:
        """A patch embedding: 3×3 with stride 2."""
        return self.unit(in_channels, out_channels, stride=2)


class Residual(nn.Module):
    """shortcut(x) + drop(units(x))."""

    def __init__(self, units: nn.Module, shortcut: nn.Module, drop: nn.Module) -> None:
        super().__init__()
        self.units, self.shortcut, self.drop = units, shortcut, drop

    def forward(self, x: Tensor) -> Tensor:
        """``(B, C, *S)`` → ``(B, C', *S)``."""
        return self.shortcut(x) + self.drop(self.units(x))


class TokenBlock(nn.Module):
    """x + 3 × [linear → norm → depthwise 3×3 → norm](LN x), then LN: U-KAN's tokenised block (arXiv 2406.02918, eq. 7).

    ``drop`` is applied to what is added to x: stochastic depth.
    """

    def __init__(self, layers: Layers, channels: int, repeats: int = 3, drop: nn.Module | None = None) -> None:
        super().__init__()
        self.drop = drop or nn.Identity()
        self.norm_in, self.norm_out = nn.LayerNorm(channels), nn.LayerNorm(channels)
        self.linears = nn.ModuleList(layers.linear(channels, channels) for _ in range(repeats))
        self.mixers = nn.ModuleList(layers.mixer(channels) for _ in range(repeats))

    def forward(self, x: Tensor) -> Tensor:
        """``(B, C, *S)`` → ``(B, C, *S)``."""
        tokens = x.flatten(2).transpose(1, 2)  # (B, N, C)
        y = self.norm_in(tokens)
        for linear, mixer in zip(self.linears, self.mixers, strict=True):
            y = mixer(linear(y).transpose(1, 2).unflatten(2, x.shape[2:])).flatten(2).transpose(1, 2)
        return self.norm_out(tokens + self.drop(y)).transpose(1, 2).unflatten(2, x.shape[2:])


def resize(x: Tensor, size: tuple[int, ...] | list[int]) -> Tensor:
    """``(B, C, *S)`` to the spatial ``size``, linear in every dimension."""
    mode = {1: "linear", 2: "bilinear", 3: "trilinear"}[x.ndim - 2]
    if not jit_traced() and tuple(x.shape[2:]) == tuple(size):  # a trace serves other sizes, too
        return x
    return F.interpolate(x, size=tuple(size), mode=mode, align_corners=False)
