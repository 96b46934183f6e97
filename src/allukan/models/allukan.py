"""ALL U-KAN: the U-shaped network in which every layer is Kolmogorov–Arnold, with its twins."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from allukan.models.layer_first import LayerFirst
from allukan.models.norm_first import NormFirst
from allukan.models.pretrained import Pretrained
from allukan.models.skeleton import UShape
from allukan.models.topology import Topology
from allukan.nn import KALayer, Spline

ORDERS: dict[str, type[NormFirst | LayerFirst]] = {"norm-first": NormFirst, "layer-first": LayerFirst}
PRESETS: dict[str, tuple[Spline, Topology, str]] = {
    "default": (Spline(grid_size=10), Topology(residual=True), "norm-first"),
    "paper": (Spline(sharing="output", input_grad="free"), Topology(), "layer-first"),
}


class AllUKAN(UShape, Pretrained):
    """The U-KAN skeleton with a KA layer in the place of every Linear, Conv, depthwise Conv, patch embedding and head.

    Every layer but the first is a unit normalise → φ → mix; stages are x + unit(unit(x)), heads and token blocks are units.
    The paper (arXiv 2602.03156) publishes no layer table, so the exact layout is our reading of it: see ``docs/model.md``.

    Args:
        in_channels: channels of the image.
        out_channels: logits, one a class.
        spatial_dims: 2 or 3.
        size: "tiny", "small" or "base"; base has U-KAN's widths.
        layer: "ka"; "conv" for the convolutional twin (its activation is ``spline.base``); "edge" for one spline an edge,
            and "stacked" for the same computed the ordinary way, the directly stacked KAN.
        spline: options of every KA layer, or a mapping of those that are not the preset's; the first layer, which sees the
            image, has the identity as base. With a spline an edge the usual 5 intervals are the default.
        norm: "batch", "instance" or "group".
        preset: "default", an activation a layer on 10 intervals, units and residual stages; or "paper", the formula read
            literally, an activation an output with Grad-Free Splines on U-KAN's plain skeleton.
        topology: options of the U-shape, or a mapping of those that are not the preset's.
        order: "norm-first", every layer but the first is a unit normalise → φ → mix (``default``); or "layer-first", U-KAN's
            order, a norm after every layer (``paper``, and all networks up to version 0.1). None is the preset's.
        activation: of ``layer="conv"`` alone: "base", the fixed ``spline.base``; or what convolutional networks learn, "prelu",
            "swish" or "rational" with one activation a layer, "prelu-channel" … with one a channel (``learned_activations``).

    >>> import torch
    >>> AllUKAN(3, 1, size="tiny")(torch.zeros(2, 3, 50, 37)).shape
    torch.Size([2, 1, 50, 37])
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        spatial_dims: int = 2,
        size: str = "base",
        layer: str = "ka",
        spline: Spline | Mapping[str, Any] | None = None,
        norm: str = "batch",
        preset: str = "default",
        topology: Topology | Mapping[str, Any] | None = None,
        order: str | None = None,
        activation: str = "base",
    ) -> None:
        if preset not in PRESETS:
            raise ValueError(f"unknown preset {preset!r}; choose one of {', '.join(PRESETS)}")
        splines, shape, usual = PRESETS[preset]
        order = usual if order is None else order
        if order not in ORDERS:
            raise ValueError(f"unknown order {order!r}; choose one of {', '.join(ORDERS)}")
        splines = splines if layer == "ka" else Spline()
        make = ORDERS[order](spatial_dims, layer, splines.updated(spline), norm, activation=activation)
        super().__init__(in_channels, out_channels, size, make, shape.updated(topology))


def ka_layers(model: nn.Module) -> dict[str, KALayer]:
    """Every KA layer of a network by its name, in order."""
    return {name: module for name, module in model.named_modules() if isinstance(module, KALayer)}
