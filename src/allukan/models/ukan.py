"""U-KAN, with KAN layers in its token blocks only, and what else can stand in their place."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from allukan.models.layer_first import LayerFirst
from allukan.models.layers import Size
from allukan.models.skeleton import UShape
from allukan.models.topology import Topology
from allukan.nn import SPRECHER, KALinear, Spline, SprecherLinear

TOKEN_LAYERS: dict[str, Spline] = {  # with the spline that each has unless told otherwise
    "kan": Spline(grid_range=(-1.0, 1.0), sharing="edge"),
    "linear": Spline(),
    "sakan": Spline(),
    "sprecher": SPRECHER,
}


class UKAN(UShape):
    """U-KAN (arXiv 2406.02918) rebuilt from its description: convolutions everywhere but in the four token blocks.

    Each block is x + 3 × [KAN layer → depthwise 3×3 → batch norm → ReLU](LN x), then LN: 12 KAN layers, 3,993,600 of the
    6,356,689 parameters (3 channels, 1 class). Widths, biases, norms and initialisation are those of the published network;
    resizing to the size of the skip makes any input size work, and ``spatial_dims=3`` is ours.

    Args:
        in_channels: channels of the image.
        out_channels: logits, one a class.
        spatial_dims: 2 or 3.
        size: "tiny", "small" or "base"; base has U-KAN's widths.
        layer: in the place of the 12 KAN layers: "kan" itself (a spline an edge), "linear" (``nn.Linear``), "sakan" (KA layers
            with shared activations) or "sprecher" (``SprecherLinear`` and a batch norm).
        spline: options of those layers, or a mapping of those that are not the default; not for "linear". For "kan"
            ``sharing`` is "edge", for "sakan" anything else.
        topology: options of the U-shape, or a mapping of those that are not the published ones.

    >>> import torch
    >>> UKAN(3, 1, size="tiny", layer="sakan")(torch.zeros(2, 3, 50, 37)).shape
    torch.Size([2, 1, 50, 37])
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        spatial_dims: int = 2,
        size: str = "base",
        layer: str = "kan",
        spline: Spline | Mapping[str, Any] | None = None,
        topology: Topology | Mapping[str, Any] | None = None,
    ) -> None:
        if layer not in TOKEN_LAYERS:
            raise ValueError(f"unknown layer {layer!r}; choose one of {', '.join(TOKEN_LAYERS)}")
        if layer == "linear" and spline is not None:
            raise ValueError("layer='linear' has no splines: leave the option spline out")
        options = TOKEN_LAYERS[layer].updated(spline)
        if layer in ("kan", "sakan") and (layer == "kan") != (options.sharing == "edge"):
            raise ValueError(
                f"sharing={options.sharing!r} is not layer={layer!r}: sharing='edge' belongs to 'kan', the rest to 'sakan'"
            )
        layers = UKANLayers(spatial_dims, "conv", options, "batch", layer)
        super().__init__(in_channels, out_channels, size, layers, Topology().updated(topology))
        for part in (self.embeddings, self.decoder_tokens):
            part.apply(_initialise)


@dataclass(frozen=True)
class UKANLayers(LayerFirst):
    """U-KAN's layers: convolutions with bias, batch norm and ReLU; ``token_layer`` on the tokens."""

    token_layer: str

    def after(self, channels: int) -> list[nn.Module]:
        """Norm and ReLU."""
        return [self.make_norm(channels), nn.ReLU()]

    def unit(self, in_channels: int, out_channels: int, kernel_size: Size = 3, **options: Size | bool) -> nn.Sequential:
        """Convolution with bias, norm, ReLU."""
        return super().unit(in_channels, out_channels, kernel_size, bias=True, **options)

    def linear(self, in_features: int, out_features: int, norm: str | None = None, image: bool = False) -> nn.Module:
        """The layer on the tokens."""
        if self.token_layer == "linear":
            return nn.Linear(in_features, out_features)
        if self.token_layer == "sprecher":
            return nn.Sequential(SprecherLinear(in_features, out_features, spline=self.spline), TokenNorm(out_features))
        return KALinear(in_features, out_features, bias=False, spline=self.spline.fitting(out_features), norm=norm)

    def mixer(self, channels: int, kernel: Size = 3) -> nn.Sequential:
        """Depthwise 3×3, norm, ReLU."""
        return self.unit(channels, channels, kernel, groups=channels)

    def embedding(self, in_channels: int, out_channels: int, stride: Size = 2, kernel: Size = 3) -> nn.Sequential:
        """3×3 with stride 2, then a layer norm over the channels."""
        conv = self.conv(in_channels, out_channels, kernel, stride=stride, bias=True)
        return nn.Sequential(conv, ChannelNorm(out_channels))


class ChannelNorm(nn.LayerNorm):
    """Layer norm over the channels of every place, ``(B, C, *S)`` → ``(B, C, *S)``."""

    def forward(self, x: Tensor) -> Tensor:
        """``(B, C, *S)`` → ``(B, C, *S)``."""
        return super().forward(x.movedim(1, -1)).movedim(-1, 1)


class TokenNorm(nn.BatchNorm1d):
    """Batch norm over the channels of tokens, ``(B, N, C)`` → ``(B, N, C)``."""

    def forward(self, x: Tensor) -> Tensor:
        """``(B, N, C)`` → ``(B, N, C)``."""
        return super().forward(x.flatten(0, -2)).view(x.shape)


def _initialise(module: nn.Module) -> None:
    """U-KAN's own start of token blocks and embeddings; its other convolutions start as torch's do."""
    if isinstance(module, KALinear) and module.spline.sharing == "edge":
        bound = 1 / math.sqrt(module.in_features)
        nn.init.uniform_(module.base_weight, -bound, bound)
        nn.init.uniform_(module.weight, -bound, bound)
        noise = 0.075 / module.spline.grid_size  # next to nothing: the layer starts as its base branch
        nn.init.uniform_(module.coef, -noise, noise)
    elif isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        nn.init.zeros_(module.bias)
    elif isinstance(module, nn.Conv2d | nn.Conv3d):
        fan_out = module.weight[0, 0].numel() * module.out_channels // module.groups
        nn.init.normal_(module.weight, std=math.sqrt(2 / fan_out))
        assert module.bias is not None
        nn.init.zeros_(module.bias)
