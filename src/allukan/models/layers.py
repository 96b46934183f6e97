"""The layers of one network and its twins: every convolution and linear layer comes from here."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from allukan.models.learned_activations import ACTIVATIONS, learned_activation
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
from allukan.nn.norm import make_norm
from allukan.ops.activations import base_function
from allukan.ops.tracing import jit_traced

_CONVOLUTIONS: dict[int, type[nn.Module]] = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
_KA_CONVOLUTIONS = {1: KAConv1d, 2: KAConv2d, 3: KAConv3d}
_STACKED_CONVOLUTIONS = {1: StackedKANConv1d, 2: StackedKANConv2d, 3: StackedKANConv3d}
Size = int | tuple[int, ...]  # for all axes, or one for each
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
    """Makes the layers of one network; in which order they stand is a matter of the subclasses.

    ``layer="ka"``, ``"edge"`` and ``"stacked"`` give KA layers, which have their activation inside, ``"conv"`` torch's own.
    "edge" and "stacked" are the same function, one spline an edge: computed as KAConv does, and the ordinary way.
    ``activation`` of "conv" is "base", the fixed one that ``spline.base`` names, or a learned one of ``ACTIVATIONS``.
    """

    spatial_dims: int
    layer: str
    spline: Spline
    norm: str
    activation: str = field(default="base", kw_only=True)

    def __post_init__(self) -> None:
        allowed_of = {"layer": LAYERS, "norm": NORMS, "spatial_dims": (1, 2, 3), "activation": ACTIVATIONS}
        for name, allowed in allowed_of.items():
            if getattr(self, name) not in allowed:
                raise ValueError(f"unknown {name} {getattr(self, name)!r}; choose one of {', '.join(map(str, allowed))}")
        if self.activation != "base" and self.layer != "conv":
            raise ValueError(
                f"activation={self.activation!r} is for layer='conv', the convolutional twin: KA layers learn their own"
            )
        if self.activation != "base" and self.spline.base != Spline().base:
            raise ValueError(
                f"activation={self.activation!r} leaves no place for spline.base={self.spline.base!r}: give one of them"
            )
        if self.layer in ("edge", "stacked"):
            object.__setattr__(self, "spline", replace(self.spline, sharing="edge"))

    def conv(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Size,
        *,
        stride: Size = 1,
        groups: int = 1,
        bias: bool = False,
        image: bool = False,
        norm: str | None = None,
    ) -> nn.Module:
        """A convolution with "same"-like padding; ``image=True`` where it sees raw intensities: then the base is the identity.

        ``norm`` is that of a KA layer, which is then a unit.
        """
        padding = same_padding(kernel_size)
        options: dict[str, Any] = {"stride": stride, "padding": padding, "groups": groups, "bias": bias}
        if self.layer == "conv":
            return _CONVOLUTIONS[self.spatial_dims](in_channels, out_channels, kernel_size, **options)
        convolutions = _STACKED_CONVOLUTIONS if self.layer == "stacked" else _KA_CONVOLUTIONS
        options |= {"spline": self.spline_of(out_channels, image=image), "norm": norm}
        return convolutions[self.spatial_dims](in_channels, out_channels, kernel_size, **options)

    def spline_of(self, out_channels: int, *, image: bool) -> Spline:
        """The spline of a layer with so many outputs."""
        spline = self.spline.fitting(out_channels)
        return replace(spline, base="identity") if image else spline

    def linear(self, in_features: int, out_features: int, norm: str | None = None, image: bool = False) -> nn.Module:
        """A linear layer on the last dimension, without bias: a norm follows. ``norm`` is that of a KA layer, then a unit."""
        if self.layer == "conv":
            return nn.Linear(in_features, out_features, bias=False)
        linear = StackedKANLinear if self.layer == "stacked" else KALinear
        return linear(in_features, out_features, bias=False, spline=self.spline_of(out_features, image=image), norm=norm)

    def make_activation(self, channels: int, last: bool = False) -> nn.Module:
        """What the convolutional twin has in the place of φ; of so many channels, the second dimension or the ``last``."""
        return Activation(self.spline.base) if self.activation == "base" else learned_activation(self.activation, channels, last)

    def make_norm(self, channels: int) -> nn.Module:
        """The normalisation of ``(B, channels, *S)``."""
        norm = make_norm(self.norm, channels, self.spatial_dims)
        assert norm is not None
        return norm


def same_padding(kernel_size: Size) -> Size:
    """What keeps the size at stride 1 for an odd kernel.

    >>> same_padding(3), same_padding((1, 3, 3))
    (1, (0, 1, 1))
    """
    return kernel_size // 2 if isinstance(kernel_size, int) else tuple(k // 2 for k in kernel_size)


def resize(x: Tensor, size: tuple[int, ...] | list[int]) -> Tensor:
    """``(B, C, *S)`` to the spatial ``size``, linear in every dimension."""
    mode = {1: "linear", 2: "bilinear", 3: "trilinear"}[x.ndim - 2]
    if not jit_traced() and tuple(x.shape[2:]) == tuple(size):  # a trace serves other sizes, too
        return x
    return F.interpolate(x, size=tuple(size), mode=mode, align_corners=False)
