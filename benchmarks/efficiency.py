"""What every model holds, computes, keeps and takes, beside its convolutional twin.

python -m benchmarks.efficiency --help
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated

from torch import nn
from typer import Option

from allukan.costs import inspect_model
from allukan.errors import UserError
from allukan.models import MODELS, SIZES
from benchmarks.efficiency_figure import draw
from benchmarks.memory import peak_bytes
from benchmarks.networks import Task, factory_networks, fits, network_contender
from benchmarks.program import Program, listed
from benchmarks.report import Result, Row
from benchmarks.settings import Settings

TWIN = "convtwin"
SMALLEST = 32  # pixels that the networks halve down to one
Models = Annotated[Iterable[str] | None, listed("Of allukan train, separated by commas  [all]")]


def bench_efficiency(
    settings: Settings,
    models: Models = None,
    px: Annotated[int, Option(help="Sides of the images.")] = 256,
    batch: Annotated[int, Option(help="Images a step.")] = 1,
    limit_gib: Annotated[float, Option(help="Models that keep more for the backward pass are counted, not run.")] = 2.0,
) -> Result:
    """Every model there is: parameters, FLOPs, memory kept for backward, times, and ratios to its convolutional twin.

    FLOPs and saved bytes come from shapes alone, in float32. A model that keeps more than the limit for the backward pass, or
    more than the memory that is free, is not run. Ratios are against the convolutional twin of the same size ("base" for
    models that have no size), which is measured whether it is asked for or not, in the same rounds.
    """
    task = Task(batch=batch, px=px)
    if batch == 1 and px <= SMALLEST:
        raise UserError(f"batch norm needs more than one value at the bottom: give px above {SMALLEST} or a batch above 1.")
    if not limit_gib > 0:
        raise UserError(f"option limit_gib must be above 0, got {limit_gib}.")
    wanted = list(MODELS if models is None else models)
    makers = factory_networks(task, dict.fromkeys([*map(_twin, wanted), *wanted]))
    rows: dict[str, Row] = {}
    notes: list[str] = []
    for name, make in makers.items():
        try:
            network = make()
        except UserError as error:  # its package is not installed
            notes.append(f"{name}: left out. {error}")
            continue
        rows[name] = {"name": name, **_on_paper(network, task, rows.get(_twin(name)))}
    with settings.running():
        for twin in dict.fromkeys(map(_twin, rows)):
            group = [name for name in rows if _twin(name) == twin]
            run = [name for name in group if fits(rows[name]["saved_bytes"], settings, limit_gib)]
            notes += [f"{name}: not run, it keeps {_gib(rows[name])} for the backward pass" for name in group if name not in run]
            _measure(rows, {name: makers[name]() for name in run}, task, settings)
    return Result(list(rows.values()), notes, about={"images": "×".join(map(str, task.shape))})


def _twin(name: str) -> str:
    size = name.rpartition("-")[2]
    return f"{TWIN}-{size if size in SIZES else 'base'}"


def _gib(row: Row) -> str:
    return f"{row['saved_bytes'] / 2**30:.1f} GiB"


def _on_paper(network: nn.Module, task: Task, twin: Row | None) -> Row:
    """``twin`` is None for the twin itself."""
    total = inspect_model(network, task.shape).total()
    row: Row = {
        "parameters": total.parameters,
        "forward_flops": total.cost.forward.total,
        "backward_flops": total.cost.backward.total,
        "saved_bytes": total.saved_bytes,
    }
    return row | {"saved_ratio": row["saved_bytes"] / (twin or row)["saved_bytes"]}


def _measure(rows: dict[str, Row], networks: dict[str, nn.Module], task: Task, settings: Settings) -> None:
    """Adds times to the rows of ``networks``, of which the twin is the first, and on a GPU the memory of a step."""
    if not networks:
        return
    reference = next(iter(networks))
    if not reference.startswith(TWIN):
        raise UserError(f"{reference} has nothing to be compared with, its twin does not fit: lower px or raise limit_gib.")
    contenders = {name: network_contender(network, task, settings) for name, network in networks.items()}
    for name, contender in contenders.items():
        peak = peak_bytes(contender.step, settings.place)
        rows[name] |= {} if peak is None else {"peak_bytes": peak}
    for what in ("step", "inference"):
        for name, timing in settings.time({name: getattr(c, what) for name, c in contenders.items()}, reference).items():
            rows[name] |= {f"{what}_seconds": timing.seconds, f"{what}_ratio": timing.ratio}
            rows[name] |= {f"{what}_quartiles": timing.quartiles, f"{what}_repeats": timing.repeats}


program = Program("efficiency", bench_efficiency, {"repeats": 2, "seconds": 3.0}, block="efficiency", draw=draw)

if __name__ == "__main__":
    program()
