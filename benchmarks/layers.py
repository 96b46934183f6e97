"""One convolution and one linear layer of every kind.

python -m benchmarks.layers --help
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Annotated

import torch
from torch import nn
from typer import Option

from allukan.errors import UserError
from allukan.models.layers import Activation, Layers
from benchmarks.contenders import REFERENCE, VARIANTS, Convolution, PeerLayers, choose
from benchmarks.measure import layer_contender, rows
from benchmarks.peers import find_peers
from benchmarks.program import Peers, Program, Variants
from benchmarks.report import Result, Row
from benchmarks.settings import Settings, at_least


@dataclass(frozen=True)
class Sizes:
    """Of the two layers and of their inputs; ``UserError`` for unusable ones."""

    channels: Annotated[int, Option(help="In and out of the convolution.")] = 64
    px: Annotated[int, Option(help="Sides of its input.")] = 64
    batch: Annotated[int, Option(help="Samples of its input.")] = 2
    kernel_size: Annotated[int, Option(help="Of the convolution.")] = 3
    spatial_dims: Annotated[int, Option(help="1, 2 or 3")] = 2
    features: Annotated[int, Option(help="In and out of the linear layer.")] = 256
    samples: Annotated[int, Option(help="Rows of its input.")] = 4096

    def __post_init__(self) -> None:
        for option, value in asdict(self).items():
            at_least(option, value, 1)
        if self.spatial_dims > 3:
            raise UserError(f"option spatial_dims must be 1, 2 or 3, got {self.spatial_dims}.")


def layers(settings: Settings, sizes: Sizes, variants: Variants = None, peers: Peers = None) -> Result:
    """One convolution and one linear layer of every kind: parameters, memory kept for backward, times."""
    of_peers, notes = find_peers(peers)
    return Result(bench_layers(settings, sizes, variants=variants, of_peers=of_peers), notes)


def bench_layers(
    settings: Settings, sizes: Sizes | None = None, *, variants: Iterable[str] | None = None, of_peers: Sequence[PeerLayers] = ()
) -> list[Row]:
    """Figures of a convolution ``channels`` → ``channels`` and of a linear layer ``features`` → ``features``, all without bias.

    The reference is torch's layer after a SiLU; ``of_peers`` come from ``find_peers``, with the settings that they choose
    themselves: grid 5 and order 3, or 8 radial functions. Raises ``UserError`` for a variant that does not exist.
    """
    names, s = choose(variants, VARIANTS, "variant"), sizes or Sizes()
    conv = Convolution(s.spatial_dims, s.channels, s.channels, s.kernel_size, padding=s.kernel_size // 2)
    shape = (s.batch, s.channels, *[s.px] * s.spatial_dims)
    title = f"Conv {'×'.join([str(s.kernel_size)] * s.spatial_dims)} {s.channels}→{s.channels} on {'×'.join(map(str, shape))}"
    convs = _ours(names, s.spatial_dims, lambda layers: layers.conv(s.channels, s.channels, s.kernel_size))
    convs |= {_stacked(peer): peer.conv(conv) for peer in of_peers if peer.conv}
    linears = _ours(names, s.spatial_dims, lambda layers: layers.linear(s.features, s.features))
    linears |= {peer.name: peer.linear(s.features, s.features) for peer in of_peers if peer.linear}
    with settings.running():
        return [
            *_table(title, convs, shape, settings),
            *_table(f"Linear {s.features}→{s.features} on {s.samples} rows", linears, (s.samples, s.features), settings),
        ]


def _ours(names: list[str], spatial_dims: int, make: Callable[[Layers], nn.Module]) -> dict[str, nn.Module]:
    modules: dict[str, nn.Module] = {}
    for name in names:
        torch.manual_seed(0)
        layer = make(Layers(spatial_dims, *VARIANTS[name], "batch"))
        modules[name] = layer
    reference = modules.pop(REFERENCE)
    return {f"{type(reference).__name__} + SiLU": nn.Sequential(Activation("silu"), reference), **modules}


def _stacked(peer: PeerLayers) -> str:
    return peer.name if "Conv" in peer.name else f"unfold + {peer.name}"


def _table(title: str, modules: dict[str, nn.Module], shape: tuple[int, ...], settings: Settings) -> list[Row]:
    contenders = {name: layer_contender(module, shape, settings) for name, module in modules.items()}
    return rows(contenders, settings, {"layer": title})


program = Program("layers", layers)

if __name__ == "__main__":
    program()
