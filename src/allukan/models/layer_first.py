"""U-KAN's order: every layer is followed by its norm, and for convolutions by the activation."""

from __future__ import annotations

from itertools import pairwise

from torch import nn

from allukan.models.blocks import Residual, TokenBlock
from allukan.models.layers import Layers, Size


class LayerFirst(Layers):
    """[KA layer, norm]: φ sits inside the next KA layer. The convolutional twin is [conv, norm, activation].

    So all have the same layers in the same places.
    """

    def after(self, channels: int) -> list[nn.Module]:
        """What follows a layer: the norm, and for the convolutional twin the activation."""
        return [self.make_norm(channels), *([self.make_activation(channels)] if self.layer == "conv" else [])]

    def unit(self, in_channels: int, out_channels: int, kernel_size: Size = 3, **options: Size | bool) -> nn.Sequential:
        """Layer, norm and, for the convolutional twin, activation."""
        return nn.Sequential(self.conv(in_channels, out_channels, kernel_size, **options), *self.after(out_channels))  # type: ignore[arg-type]

    def stage(self, channels: tuple[int, ...], *, image: bool, drop: nn.Module | None, kernel: Size = 3) -> nn.Module:
        """Units from the first to the last of the channels; with a ``drop`` residual, the 1×1 shortcut with a norm of its own."""
        units = nn.Sequential(*(self.unit(*c, kernel, image=image and i == 0) for i, c in enumerate(pairwise(channels))))
        if drop is None:
            return units
        a, b = channels[0], channels[-1]
        changes = nn.Sequential(self.conv(a, b, 1, image=image), self.make_norm(b)) if a != b else nn.Identity()
        return Residual(units, changes, drop)

    def token_block(self, channels: int, repeats: int, drop: nn.Module, kernel: Size = 3) -> TokenBlock:
        """x + 3 × [linear → norm → depthwise 3×3 → norm](LN x), then LN."""
        linears = [self.linear(channels, channels) for _ in range(repeats)]
        mixers: list[nn.Module] = [self.mixer(channels, kernel) for _ in range(repeats)]
        return TokenBlock(linears, mixers, drop, nn.LayerNorm(channels), nn.LayerNorm(channels))

    def mixer(self, channels: int, kernel: Size = 3) -> nn.Sequential:
        """What follows a linear layer of a token block: norm, depthwise 3×3, norm."""
        return nn.Sequential(*self.after(channels), *self.unit(channels, channels, kernel, groups=channels))

    def embedding(self, in_channels: int, out_channels: int, stride: Size = 2, kernel: Size = 3) -> nn.Module:
        """A patch embedding: 3×3 with stride 2."""
        return self.unit(in_channels, out_channels, kernel, stride=stride)

    def head(self, in_channels: int, out_channels: int) -> nn.Module:
        """Logits: 1×1."""
        return self.conv(in_channels, out_channels, 1, bias=True)
