"""ALL U-KAN, its twins and peers in the same topology: training step and inference.

python -m benchmarks.models --help
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated

from torch import nn

from benchmarks.contenders import REFERENCE, VARIANTS, PeerLayers, choose, with_layers_of
from benchmarks.measure import Contender, rows
from benchmarks.networks import Network, Task, factory_networks, fits, network_contender, on_paper, too_large
from benchmarks.peers import find_peers, find_ukan
from benchmarks.program import Peers, Program, Variants, listed
from benchmarks.report import Result, Row
from benchmarks.settings import Settings
from benchmarks.sparing import TWINS, sparing

Others = Annotated[Iterable[str], listed("Further models of allukan train, separated by commas.")]


def models(settings: Settings, task: Task, variants: Variants = None, peers: Peers = None, others: Others = ("ukan",)) -> Result:
    """ALL U-KAN, its convolutional twin and KANs in the same topology: memory, training step, inference."""
    of_peers, notes = find_peers(peers)
    further = factory_networks(task, others)
    if (task.in_channels, task.spatial_dims) == (3, 2):
        network, why = find_ukan(peers)
        notes += why
        further |= {"U-KAN (its own code)": network} if network else {}
    notes += [f"{peer.name}: left out, it has no convolution; see benchmarks.layers" for peer in of_peers if peer.conv is None]
    return Result(bench_models(settings, task, variants=variants, of_peers=of_peers, others=further), notes)


def bench_models(
    settings: Settings,
    task: Task | None = None,
    *,
    variants: Iterable[str] | None = None,
    of_peers: Sequence[PeerLayers] = (),
    others: Mapping[str, Network] | None = None,
) -> list[Row]:
    """Figures of one training step (forward, loss, backward, Adam) and of inference; the convolutional twin is the reference.

    ``of_peers`` take the places of the layers of the twin; ``others`` are networks of their own. Of a
    network that does not fit into memory, only size and saved bytes are given, measured on the meta device in float32.
    """
    task = task or Task()
    networks = _networks(task, choose(variants, [*VARIANTS, *TWINS], "variant"), of_peers) | dict(others or {})
    with settings.running():
        fitting: dict[str, Contender] = {}
        small: dict[str, Row] = {}
        for name, make in networks.items():
            network = make()
            small[name] = {"name": name, **on_paper(network, task)}
            if fits(small[name]["saved_bytes"], settings):
                fitting[name] = network_contender(network, task, settings)
        if REFERENCE not in fitting:
            raise too_large(task, settings)
        measured = {row["name"]: row for row in rows(fitting, settings)}
    return [measured.get(name, small[name] | {"note": "does not fit into memory"}) for name in networks]


def _networks(task: Task, variants: Iterable[str], of_peers: Sequence[PeerLayers]) -> dict[str, Network]:
    """How to make every network, by name; a peer needs both kinds of layers."""
    networks: dict[str, Network] = {name: lambda name=name: _network(task, name) for name in variants}  # type: ignore[misc]
    for peer in of_peers:
        if peer.linear and peer.conv:
            networks[peer.name] = lambda peer=peer: with_layers_of(peer, task.network(REFERENCE))  # type: ignore[misc]
    return networks


def _network(task: Task, name: str) -> nn.Module:
    if name in TWINS:
        return sparing(task.network(REFERENCE), whole=name == "conv-checkpoint")
    return task.network(name)


program = Program("models", models, defaults={"seconds": 5.0})

if __name__ == "__main__":
    program()
