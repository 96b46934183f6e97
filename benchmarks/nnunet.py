"""What our networks cost in nnU-Net: those that its plans and ours name for one configuration, side by side.

python -m benchmarks.nnunet --help
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from pydoc import locate
from statistics import median
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from typer import Option

from allukan.costs import parameter_count, saved_bytes
from allukan.errors import UserError
from allukan.files import read_json, write_json
from allukan.integrations.nnunet import read_plans, resolved, write_plans
from benchmarks.program import EVERY_SETTING, Program
from benchmarks.report import Result, Row
from benchmarks.settings import Settings, at_least
from benchmarks.timing import Step

HIPPOCAMPUS = Path(__file__).parents[1] / "tests/integrations/nnunet_plans/hippocampus.json"  # as nnU-Net 2.8.1 planned it
_CLASSES = 3  # with the background
_LEAST = "Seconds are of CPU time, the least of the rounds; networks take turns, and the ratio is the median over the rounds."


def nnunet(
    settings: Settings,
    plans: Annotated[Path, Option(help="Plans file of nnU-Net v2.")] = HIPPOCAMPUS,
    configuration: Annotated[str, Option(help="Of the plans.")] = "3d_fullres",
    batch: Annotated[int, Option(help="Patches a step.")] = 2,
) -> Result:
    """Parameters, saved bytes and training step of nnU-Net's network, ALL U-KAN in its place, and its own as KA layers.

    A step is forward, cross-entropy at every level of the deep supervision, backward and nnU-Net's SGD, on a CPU.
    """
    at_least("batch", batch, 1)
    with settings.running():
        networks = planned_networks(plans, configuration)
        shape = (batch, 1, *resolved(read_plans(plans.parent, plans.stem), configuration)["patch_size"])
        steps = {name: training_step(network, torch.randn(shape)) for name, network in networks.items()}
        times = cpu_seconds(steps, settings.repeats)
        rows = [_row(name, network, torch.randn(shape), times) for name, network in networks.items()]
    return Result(rows, [f"{configuration} of {plans.name}: patches {'×'.join(map(str, shape))}.", _LEAST])


def planned_networks(plans: Path, configuration: str) -> dict[str, nn.Module]:
    """The network of a plans file with one channel, that of nnU-Net first; ``UserError`` without its package."""
    given = resolved(read_plans(plans.parent, plans.stem), configuration)
    with TemporaryDirectory() as folder:
        write_json(Path(folder) / f"{plans.stem}.json", read_plans(plans.parent, plans.stem))
        written = [write_plans(Path(folder), plans.stem, kind, only=[configuration]).path for kind in ("allukan", "convert")]
        ours, converted = (read_json(path)["configurations"][configuration] for path in written)
    kind = given["architecture"]["network_class_name"].rpartition(".")[2]
    return {kind: _built(given), "ALL U-KAN": _built(ours), f"{kind}, converted": _built(converted)}


def _built(configuration: Mapping[str, Any]) -> nn.Module:
    architecture = configuration["architecture"]
    given = architecture["arch_kwargs"] | {
        name: locate(architecture["arch_kwargs"][name])
        for name in architecture["_kw_requires_import"]
        if architecture["arch_kwargs"][name] is not None
    }
    made: Any = locate(architecture["network_class_name"])
    if made is None or given.get("unet", made) is None:
        raise UserError("this needs nnU-Net's networks: pip install --no-deps dynamic-network-architectures.")
    torch.manual_seed(0)
    return made(input_channels=1, num_classes=_CLASSES, deep_supervision=True, **given)  # type: ignore[no-any-return]


def training_step(network: nn.Module, x: Tensor) -> Step:
    """A step of nnU-Net's optimiser on random labels."""
    optimizer = torch.optim.SGD(network.parameters(), 0.01, momentum=0.99, nesterov=True, weight_decay=3e-5)
    labels = [torch.randint(_CLASSES, (y.shape[0], *y.shape[2:])) for y in network(x)]

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        _loss(network(x), labels).backward()
        optimizer.step()

    return step


def _loss(levels: list[Tensor], labels: list[Tensor]) -> Tensor:
    """Each level counts half of the one before."""
    terms = [F.cross_entropy(y, label) / 2**i for i, (y, label) in enumerate(zip(levels, labels, strict=True))]
    return torch.stack(terms).sum()


def cpu_seconds(steps: Mapping[str, Step], rounds: int) -> dict[str, list[float]]:
    """CPU time of every step in every round, after a warm-up; all in turn."""
    for step in steps.values():
        step()
    samples: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(rounds):
        for name, step in steps.items():
            start = time.process_time()
            step()
            samples[name].append(time.process_time() - start)
    return samples


def _row(name: str, network: nn.Module, x: Tensor, times: Mapping[str, list[float]]) -> Row:
    reference = next(iter(times.values()))
    return {
        "network": name,
        "parameters": parameter_count(network),
        "saved_bytes": saved_bytes(lambda: network(x), network),
        "step_seconds": min(times[name]),
        "step_ratio": median(mine / theirs for mine, theirs in zip(times[name], reference, strict=True)),
        "rounds": len(times[name]),
    }


program = Program("nnunet", nnunet, defaults={"threads": 1, "repeats": 5}, without=EVERY_SETTING - {"threads", "repeats"})
if __name__ == "__main__":
    program()
