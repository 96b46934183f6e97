"""``allukan bench layers``: one convolution and one linear layer of every kind (the layer table of DESIGN section 7)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import torch
from torch import nn

from allukan.bench.contenders import REFERENCE, VARIANTS, Convolution, Kit, choose
from allukan.bench.measure import Row, layer_contender, rows
from allukan.bench.settings import Settings, at_least
from allukan.errors import UserError
from allukan.models.layers import Activation, Layers


def bench_layers(
    settings: Settings,
    *,
    variants: Iterable[str] | None = None,
    kits: Sequence[Kit] = (),
    channels: int = 64,
    px: int = 64,
    batch: int = 2,
    kernel_size: int = 3,
    spatial_dims: int = 2,
    features: int = 256,
    samples: int = 4096,
) -> list[Row]:
    """Figures of a convolution ``channels`` → ``channels`` and of a linear layer ``features`` → ``features``, all without bias.

    The reference is torch's layer after a SiLU; ``kits`` come from ``peers.find_peers``. Peers have the settings that they choose
    themselves: grid 5 and order 3, or 8 radial functions. Raises ``UserError`` for a variant that does not exist.
    """
    names = choose(variants, VARIANTS, "variant")
    sizes = {"channels": channels, "px": px, "batch": batch, "kernel_size": kernel_size, "features": features, "samples": samples}
    for option, value in sizes.items():
        at_least(option, value, 1)
    if spatial_dims not in (1, 2, 3):
        raise UserError(f"option spatial_dims must be 1, 2 or 3, got {spatial_dims}.")
    conv = Convolution(spatial_dims, channels, channels, kernel_size, padding=kernel_size // 2)
    shape = (batch, channels, *[px] * spatial_dims)
    title = f"Conv {'×'.join([str(kernel_size)] * spatial_dims)} {channels}→{channels} on {'×'.join(map(str, shape))}"

    def our_conv(layers: Layers) -> nn.Module:
        return layers.conv(channels, channels, kernel_size)

    def our_linear(layers: Layers) -> nn.Module:
        return layers.linear(features, features)

    convs = _ours(names, spatial_dims, our_conv)
    convs |= {_stacked(kit): kit.conv(conv) for kit in kits if kit.conv}
    linears = _ours(names, spatial_dims, our_linear)
    linears |= {kit.name: kit.linear(features, features) for kit in kits if kit.linear}
    with settings.running():
        return [
            *_table(title, convs, shape, settings),
            *_table(f"Linear {features}→{features} on {samples} rows", linears, (samples, features), settings),
        ]


def _ours(names: list[str], spatial_dims: int, make: Callable[[Layers], nn.Module]) -> dict[str, nn.Module]:
    modules: dict[str, nn.Module] = {}
    for name in names:
        torch.manual_seed(0)
        layer = make(Layers(spatial_dims, *VARIANTS[name], "batch"))
        modules[name] = layer
    reference = modules.pop(REFERENCE)
    return {f"{type(reference).__name__} + SiLU": nn.Sequential(Activation("silu"), reference), **modules}


def _stacked(kit: Kit) -> str:
    return kit.name if "Conv" in kit.name else f"unfold + {kit.name}"


def _table(title: str, modules: dict[str, nn.Module], shape: tuple[int, ...], settings: Settings) -> list[Row]:
    contenders = {name: layer_contender(module, shape, settings) for name, module in modules.items()}
    return rows(contenders, settings, {"layer": title})
