"""The U-shape that ALL U-KAN, its twins and U-KAN share: what differs is who makes the layers."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Protocol

from monai.networks.layers import DropPath
from torch import Tensor, nn
from torch.fx import Proxy

from allukan.errors import UserError
from allukan.models.layers import resize
from allukan.models.pooling import max_pool
from allukan.models.topology import Axes, Topology
from allukan.nn.opaque import Opaque
from allukan.ops.tracing import refuse_classic_onnx, sizes

_CONVOLUTIONAL = 3  # stages of the encoder; those that follow are tokenised


class Maker(Protocol):
    """Gives the parts of a U-shape, and so decides what its layers are and in which order they stand."""

    @property
    def spatial_dims(self) -> int:
        """2 or 3."""

    def stage(self, channels: tuple[int, ...], *, image: bool, drop: nn.Module | None, kernel: Axes) -> nn.Module:
        """A layer from each number of channels to the next; ``drop`` of what is added to the input, None for no shortcut."""

    def embedding(self, in_channels: int, out_channels: int, stride: Axes, kernel: Axes) -> nn.Module:
        """To half the size, or what ``stride`` makes of it."""

    def token_block(self, channels: int, repeats: int, drop: nn.Module, kernel: Axes) -> nn.Module:
        """Linear layers on every place and what mixes places, added to the input."""

    def head(self, in_channels: int, out_channels: int) -> nn.Module:
        """Logits."""


class UShape(Opaque):
    """Three double convolutions with max pooling, two strided patch embeddings with a tokenised block each, and the way back up
    by linear resizing and ADDED skips. Works for any input size; the deepest maps are 1/32 of it. With ``topology.strides``
    there may be fewer stages, the first three of them convolutional, and each divides the size as told along every axis. Nothing
    is computed at the size of the image on the way back, unless ``topology.full_depth`` asks for it.

    Args:
        in_channels: channels of the image.
        out_channels: logits, one a class.
        size: a name of ``SIZES``.
        make: gives every part.
        topology: what differs from U-KAN's.
    """

    def __init__(self, in_channels: int, out_channels: int, size: str, make: Maker, topology: Topology) -> None:
        super().__init__()
        widths = topology.widths_of(size)
        if make.spatial_dims not in (2, 3):
            raise ValueError(f"spatial_dims must be 2 or 3, got {make.spatial_dims}")
        self.in_channels, self.out_channels, self.spatial_dims = in_channels, out_channels, make.spatial_dims
        drops = _drops(topology)
        strides, kernels = topology.strides_of(make.spatial_dims), topology.kernels_of(make.spatial_dims)
        self.pools = strides[:_CONVOLUTIONAL]
        downward = widths[::-1]  # 256, 160, 128, 32, 16

        def stage(a: int, b: int, inner: int, kernel: Axes, image: bool = False) -> nn.Module:
            channels = (a, *[inner] * (topology.depth - 1), b)
            return make.stage(channels, image=image, drop=next(drops) if topology.residual else None, kernel=kernel)

        def tokens(channels: int, kernel: Axes) -> nn.Module:
            return make.token_block(channels, topology.token_depth, next(drops), kernel)

        def embed(i: int) -> nn.Module:
            a, b = widths[i - 1 : i + 1]
            return nn.Sequential(make.embedding(a, b, strides[i], kernels[i]), tokens(b, kernels[i + 1]))

        channels, upward = pairwise((in_channels, *widths[:_CONVOLUTIONAL])), pairwise((*downward, widths[0]))
        self.encoder = nn.ModuleList(stage(a, b, b, kernels[i], image=i == 0) for i, (a, b) in enumerate(channels))
        tokenised = range(_CONVOLUTIONAL, topology.stages)
        self.embeddings = nn.ModuleList(embed(i) for i in tokenised)
        self.decoder = nn.ModuleList(stage(a, b, a, kernel) for (a, b), kernel in zip(upward, kernels[:0:-1], strict=True))
        self.decoder_tokens = nn.ModuleList(tokens(widths[i - 1], kernels[i]) for i in reversed(tokenised))
        self.full = self._full_stage(widths[0], topology, kernels[0], make)
        self.head = make.head(widths[0], out_channels)
        coarser = downward[1:] if topology.deep_supervision else ()
        self.heads = nn.ModuleList(make.head(c, out_channels) for c in coarser)

    @staticmethod
    def _full_stage(channels: int, topology: Topology, kernel: Axes, make: Maker) -> nn.Module | None:
        """What follows the sum of the last map and the first before pooling; None where that is not added."""
        if not topology.full_depth:
            return None if topology.full_depth is None else nn.Identity()
        drop = nn.Identity() if topology.residual else None
        return make.stage((channels,) * (topology.full_depth + 1), image=False, drop=drop, kernel=kernel)

    def forward(self, x: Tensor) -> Tensor:
        """``(B, in_channels, *S)`` → logits ``(B, out_channels, *S)``; ``ValueError`` for another number of channels."""
        return self.head(self._features(x)[-1])

    def levels(self, x: Tensor) -> list[Tensor]:
        """The logits ``(B, out_channels, *S)``, and with deep supervision those of every coarser resolution but the last."""
        *coarser, finest = self._features(x)
        return [self.head(finest), *(head(x) for head, x in zip(reversed(self.heads), reversed(coarser), strict=True))]

    def _features(self, x: Tensor) -> list[Tensor]:
        """What the stages of the decoder give, from the coarsest to the size of x; without further heads the last one only."""
        check_input(x, self.in_channels, self.spatial_dims)
        sizes, skips, first = [tuple(x.shape[2:])], [], x
        for i, (stage, pool) in enumerate(zip(self.encoder, self.pools, strict=True)):
            x = stage(x)
            first = first if i or self.full is None else x
            x = max_pool(x, pool)
            skips.append(x)
        for embed in self.embeddings:
            x = embed(x)
            skips.append(x)
        skips.pop()  # the bottleneck itself
        found: list[Tensor] = []
        for i, stage in enumerate(self.decoder):
            skip = skips.pop() if skips else None
            x = resize(stage(x), sizes[0] if skip is None else skip.shape[2:])
            if skip is not None:
                x = x + skip
            elif self.full is not None:
                x = self.full(x + first)
            x = self.decoder_tokens[i](x) if i < len(self.decoder_tokens) else x
            found = [*(found if len(self.heads) else ()), x]
        return found


def _drops(topology: Topology) -> Iterator[nn.Module]:
    """Stochastic depth of the branches in the order in which they are made, which is that of the data up to the last stages."""
    convolutional = min(topology.stages, _CONVOLUTIONAL)
    count = 2 * (topology.stages - convolutional) + (convolutional + topology.stages) * topology.residual
    for i in range(count):
        share = topology.drop_path * i / (count - 1)
        yield DropPath(share) if share else nn.Identity()


def check_input(x: Tensor, in_channels: int, spatial_dims: int) -> None:
    """Raise ``ValueError`` unless x is ``(B, in_channels, *S)``, and ``UserError`` for an exporter that cannot follow it."""
    refuse_classic_onnx()
    if isinstance(x, Proxy):
        raise UserError(
            "torch.fx.symbolic_trace cannot follow a model that resizes to the sizes of its image: use torch.export.export, or "
            "torch.fx.experimental.proxy_tensor.make_fx"
        )
    if x.ndim != spatial_dims + 2 or sizes(x)[1] != in_channels:
        raise ValueError(f"the model expects (B, {in_channels}, *S) with {spatial_dims} spatial dimensions, got {tuple(x.shape)}")
