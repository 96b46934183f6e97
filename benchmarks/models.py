"""ALL U-KAN, its twins and peers in the same topology: training step and inference.

python -m benchmarks.models --help
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated

from torch import nn

from benchmarks.contenders import REFERENCE, VARIANTS, Kit, choose, with_layers_of
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
    kits, notes = find_peers(peers)
    further = factory_networks(task, others)
    if (task.in_channels, task.spatial_dims) == (3, 2):
        network, why = find_ukan(peers)
        notes += why
        further |= {"U-KAN (its own code)": network} if network else {}
    notes += [f"{kit.name}: left out, it has no convolution; see benchmarks.layers" for kit in kits if kit.conv is None]
    return Result(bench_models(settings, task, variants=variants, kits=kits, others=further), notes)


def bench_models(
    settings: Settings,
    task: Task | None = None,
    *,
    variants: Iterable[str] | None = None,
    kits: Sequence[Kit] = (),
    others: Mapping[str, Network] | None = None,
) -> list[Row]:
    """Figures of one training step (forward, loss, backward, Adam) and of inference; the convolutional twin is the reference.

    ``kits`` are put into the topology of ALL U-KAN, every layer of the twin exchanged; ``others`` are networks of their own. Of a
    network that does not fit into memory, only size and saved bytes are given, measured on the meta device in float32.
    """
    task = task or Task()
    networks = _networks(task, choose(variants, [*VARIANTS, *TWINS], "variant"), kits) | dict(others or {})
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


def _networks(task: Task, variants: Iterable[str], kits: Sequence[Kit]) -> dict[str, Network]:
    """How to make every network, by name; a kit needs both kinds of layers."""
    networks: dict[str, Network] = {name: lambda name=name: _network(task, name) for name in variants}  # type: ignore[misc]
    for kit in kits:
        if kit.linear and kit.conv:
            networks[kit.name] = lambda kit=kit: with_layers_of(kit, task.network(REFERENCE))  # type: ignore[misc]
    return networks


def _network(task: Task, name: str) -> nn.Module:
    if name in TWINS:
        return sparing(task.network(REFERENCE), whole=name == "conv-checkpoint")
    return task.network(name)


program = Program("models", models, defaults={"seconds": 5.0})

if __name__ == "__main__":
    program()
