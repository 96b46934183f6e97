"""The U-shape that ALL U-KAN, its twins and U-KAN share: what differs is who makes the layers."""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor, nn

from allukan.models.layers import Layers, TokenBlock, resize
from allukan.models.pooling import max_pool

SIZES: dict[str, tuple[int, int, int, int, int]] = {
    "tiny": (8, 16, 64, 80, 128),
    "small": (12, 24, 96, 120, 192),
    "base": (16, 32, 128, 160, 256),  # U-KAN's widths
}


class UShape(nn.Module):
    """Three double convolutions with max pooling, two strided patch embeddings with a tokenised block each, and the way back up
    by linear resizing and ADDED skips. Works for any input size; the deepest maps are 1/32 of it.

    Args:
        in_channels: channels of the image.
        out_channels: logits, one a class.
        size: a name of ``SIZES``.
        make: gives every layer.
    """

    def __init__(self, in_channels: int, out_channels: int, size: str, make: Layers) -> None:
        super().__init__()
        if size not in SIZES:
            raise ValueError(f"unknown size {size!r}; choose one of {', '.join(SIZES)}")
        if make.spatial_dims not in (2, 3):
            raise ValueError(f"spatial_dims must be 2 or 3, got {make.spatial_dims}")
        widths = SIZES[size]
        self.in_channels, self.out_channels, self.spatial_dims = in_channels, out_channels, make.spatial_dims
        inputs = (in_channels, *widths[:2])
        self.encoder = nn.ModuleList(
            nn.Sequential(make.unit(a, b, image=i == 0), make.unit(b, b))
            for i, (a, b) in enumerate(zip(inputs, widths[:3], strict=True))
        )
        self.embeddings = nn.ModuleList(nn.Sequential(make.embedding(a, b), TokenBlock(make, b)) for a, b in pairwise(widths[2:]))
        downward = widths[::-1]  # 256, 160, 128, 32, 16
        self.decoder = nn.ModuleList(
            nn.Sequential(make.unit(a, a), make.unit(a, b)) for a, b in zip(downward, (*downward[1:], widths[0]), strict=True)
        )
        self.decoder_tokens = nn.ModuleList(TokenBlock(make, c) for c in downward[1:3])
        self.head = make.conv(widths[0], out_channels, 1, bias=True)

    def forward(self, x: Tensor) -> Tensor:
        """``(B, in_channels, *S)`` → logits ``(B, out_channels, *S)``; ``ValueError`` for another number of channels."""
        check_input(x, self.in_channels, self.spatial_dims)
        sizes, skips = [tuple(x.shape[2:])], []
        for stage in self.encoder:
            x = max_pool(stage(x))
            skips.append(x)
        for embed in self.embeddings:
            x = embed(x)
            skips.append(x)
        skips.pop()  # the bottleneck itself
        for i, stage in enumerate(self.decoder):
            skip = skips.pop() if skips else None
            x = resize(stage(x), sizes[0] if skip is None else skip.shape[2:])
            x = x if skip is None else x + skip
            x = self.decoder_tokens[i](x) if i < len(self.decoder_tokens) else x
        return self.head(x)


def check_input(x: Tensor, in_channels: int, spatial_dims: int) -> None:
    """Raise ``ValueError`` unless x is ``(B, in_channels, *S)``."""
    if x.ndim != spatial_dims + 2 or x.shape[1] != in_channels:
        raise ValueError(f"the model expects (B, {in_channels}, *S) with {spatial_dims} spatial dimensions, got {tuple(x.shape)}")
