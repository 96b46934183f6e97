"""The order of the units: normalise → φ → mix, so that φ always meets a normalised input (pre-activation, arXiv 1603.05027)."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from torch import nn

from allukan.models.blocks import Fork, ForkedResidual, Residual, TokenBlock
from allukan.models.layers import Layers, Size, same_padding
from allukan.nn import KAFork1d, KAFork2d, KAFork3d

_FORKS = {1: KAFork1d, 2: KAFork2d, 3: KAFork3d}


class NormFirst(Layers):
    """KA layers with their norm inside; the convolutional twin is [norm, activation, conv].

    Skips, pooling and resizing stand between units. What sees the image has no norm, and no activation but the KA layer's.
    """

    def unit(
        self, in_channels: int, out_channels: int, kernel_size: Size = 3, *, image: bool = False, **options: Size | bool
    ) -> nn.Module:
        """normalise → φ → convolution; on the image without the norm."""
        if self.layer == "conv":
            conv = self.conv(in_channels, out_channels, kernel_size, **options)  # type: ignore[arg-type]
            return conv if image else nn.Sequential(*self._before(in_channels), conv)
        norm = None if image else self.norm
        return self.conv(in_channels, out_channels, kernel_size, image=image, norm=norm, **options)  # type: ignore[arg-type]

    def stage(self, channels: tuple[int, ...], *, image: bool, drop: nn.Module | None, kernel: Size = 3) -> nn.Module:
        """Units from the first to the last of the channels; with a ``drop`` residual, x + units(x).

        Where the channels change x goes through a 1×1 unit, which shares x̂ and φ with the first one (``KAFork``). With an
        activation an output or an edge there is no φ to share: the 1×1 unit then has a norm and activations of its own.
        """
        first, *pairs = pairwise(channels)
        later = nn.Sequential(*(self.unit(*pair, kernel) for pair in pairs))
        a, b = channels[0], channels[-1]
        if drop is not None and a != b and (self.layer == "conv" or self.spline.sharing in ("layer", "input")):
            return ForkedResidual(self.fork(*first, b, kernel, image=image), later, drop)
        units = nn.Sequential(self.unit(*first, kernel, image=image), *later)
        if drop is None:
            return units
        return Residual(units, nn.Identity() if a == b else self.unit(a, b, 1, image=image), drop)

    def fork(self, in_channels: int, out_channels: int, side_channels: int, kernel: Size = 3, *, image: bool) -> nn.Module:
        """A 3×3 and a 1×1 unit with one norm and one φ."""
        if self.layer == "conv":
            before = nn.Sequential(*([] if image else self._before(in_channels)))
            return Fork(before, self.conv(in_channels, out_channels, kernel), self.conv(in_channels, side_channels, 1))
        options: dict[str, Any] = {"kernel_size": kernel, "padding": same_padding(kernel), "bias": False}
        options |= {"spline": self.spline_of(out_channels, image=image), "norm": None if image else self.norm}
        return _FORKS[self.spatial_dims](in_channels, out_channels, side_channels, **options)

    def token_block(self, channels: int, repeats: int, drop: nn.Module, kernel: Size = 3) -> TokenBlock:
        """x + 3 × [linear unit with layer norm → depthwise 3×3 unit](x)."""
        linears = [self.linear_unit(channels, channels) for _ in range(repeats)]
        mixers = [self.unit(channels, channels, kernel, groups=channels) for _ in range(repeats)]
        return TokenBlock(linears, mixers, drop, nn.Identity(), nn.Identity())

    def linear_unit(self, in_features: int, out_features: int) -> nn.Module:
        """Layer norm → φ → matrix, on the last dimension."""
        if self.layer != "conv":
            return self.linear(in_features, out_features, norm="layer")
        before = nn.LayerNorm(in_features), self.make_activation(in_features, last=True)
        return nn.Sequential(*before, self.linear(in_features, out_features))

    def embedding(self, in_channels: int, out_channels: int, stride: Size = 2, kernel: Size = 3) -> nn.Module:
        """A patch embedding: a 3×3 unit with stride 2."""
        return self.unit(in_channels, out_channels, kernel, stride=stride)

    def head(self, in_channels: int, out_channels: int) -> nn.Module:
        """Logits: a 1×1 unit."""
        return self.unit(in_channels, out_channels, 1, bias=True)

    def _before(self, channels: int) -> list[nn.Module]:
        """What the convolutional twin has before a convolution."""
        return [self.make_norm(channels), self.make_activation(channels)]
