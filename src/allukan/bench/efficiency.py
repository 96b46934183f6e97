"""``allukan bench efficiency``: what every model holds, computes, keeps and takes, beside its convolutional twin."""

from __future__ import annotations

from collections.abc import Iterable

from torch import nn

from allukan.bench.measure import Row
from allukan.bench.networks import Task, factory_networks, fits, network_contender
from allukan.bench.settings import Settings
from allukan.bench.timing import peak_bytes
from allukan.costs import inspect_model
from allukan.errors import UserError
from allukan.models import MODELS, SIZES

TWIN = "convtwin"
SMALLEST = 32  # pixels that the networks halve down to one


def bench_efficiency(
    settings: Settings, models: Iterable[str] | None = None, *, px: int = 256, batch: int = 1, limit_gib: float = 2.0
) -> tuple[list[Row], list[str]]:
    """One row a model and notes on what is missing: parameters, FLOPs and saved bytes on paper, then times of step and inference.

    FLOPs and saved bytes come from shapes alone (``inspect_model``, float32). A model that keeps more than ``limit_gib`` for the
    backward pass, or more than the memory that is free, is not run. Ratios are against the convolutional twin of the same size
    ("base" for models that have no size), which is measured whether it is asked for or not, in the same rounds.
    """
    task = Task(batch=batch, px=px)
    if batch == 1 and px <= SMALLEST:
        raise UserError(f"batch norm needs more than one value at the bottom: give px above {SMALLEST} or a batch above 1.")
    if not limit_gib > 0:
        raise UserError(f"option limit_gib must be above 0, got {limit_gib}.")
    names = list(MODELS if models is None else models)
    names = [*dict.fromkeys(_twin(name) for name in names), *names]
    makers = factory_networks(task, dict.fromkeys(names))
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
    return list(rows.values()), notes


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
