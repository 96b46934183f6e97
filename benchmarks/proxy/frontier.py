"""What Dice costs: networks of the proxy and their twins against parameters, FLOPs, memory and time of a training step.

python -m benchmarks.proxy.frontier FOLDER --out benchmarks/results/frontier.json --figure docs/evidence/frontier.svg \
    --page docs/evidence/splines.md
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter, ScalarFormatter
from torch import nn
from typer import Argument

from allukan.costs import inspect_model
from allukan.errors import UserError
from allukan.models import build_model
from allukan.report import palette, plain
from benchmarks.networks import Task, network_contender
from benchmarks.pages import save
from benchmarks.program import Program
from benchmarks.proxy.rows import REFERENCE, ROWS, SIZES
from benchmarks.proxy.table import Cells, read_cells
from benchmarks.report import Result
from benchmarks.report import Row as Line
from benchmarks.settings import Settings

KINDS = {  # how a row of that size is called, and how it is drawn
    "twin": ("{size}/twin/{rate}", "norm, SiLU, convolution", palette.BLUE),
    "layer": ("{size}/layer/{rate}/10", "KA, one activation a layer", palette.ORANGE),
    "input": ("{size}/input/{rate}/10", "KA, one an input channel", palette.VERMILION),
}
TASK = Task(batch=16, in_channels=1, px=48)  # as the proxy trains
_LEAST = 3  # trainings, below which nothing is known of others
_AXES = {
    "parameters": (1e3, "parameters, thousands"),
    "saved_bytes": (2**20, "kept for the backward pass, MiB"),
    "step_seconds": (1e-3, "training step, ms"),
}


def frontier(settings: Settings, folder: Annotated[Path, Argument(help="Folder of the cells.", show_default=False)]) -> Result:
    """Mean Dice on the test subjects of every size and kind with three trainings or more, and what it costs."""
    cells = read_cells(folder)
    rows = [row for size in SIZES for kind in KINDS if (row := _dice(cells, size, kind))]
    if not rows:
        raise UserError(f"{folder} has no row of three trainings: run python -m benchmarks.proxy.cells first.")
    with settings.running():
        networks = {line["row"]: _network(line["row"]) for line in rows}
        for line in rows:
            total = inspect_model(networks[line["row"]], TASK.shape).total()
            line |= {"parameters": total.parameters, "forward_flops": total.cost.forward.total, "saved_bytes": total.saved_bytes}
        contenders = {name: network_contender(network, TASK, settings) for name, network in networks.items()}
        times = settings.time({name: c.step for name, c in contenders.items()}, rows[0]["row"])
        for line in rows:
            line["step_seconds"] = times[line["row"]].seconds
    return Result(rows)


def _dice(cells: Cells, size: str, kind: str) -> Line | None:
    """Mean over trainings and its standard error, in points."""
    name = KINDS[kind][0].format(size=size, rate=REFERENCE[size])
    scores = [100 * float(np.mean(cell["scores"]["test"])) for cell in cells.get(name, {}).values()]
    if len(scores) < _LEAST:
        return None
    error = float(np.std(scores, ddof=1)) / math.sqrt(len(scores))
    return {
        "row": name,
        "kind": kind,
        "seeds": len(scores),
        "Dice, %": round(float(np.mean(scores)), 2),
        "standard error": round(error, 2),
    }


def _network(name: str) -> nn.Module:
    return build_model(ROWS[name].model, in_channels=1, out_channels=1, **ROWS[name].options)


def draw(path: Path, rows: Sequence[Line], where: Line) -> None:
    """Dice against each cost, a line a kind, with standard errors over trainings."""
    figure = Figure(figsize=(11, 4), layout="constrained", dpi=110)
    places = figure.subplots(1, len(_AXES), sharey=True)
    for axes, (key, (unit, label)) in zip(places, _AXES.items(), strict=True):
        for kind, (_, text, colour) in KINDS.items():
            found = sorted((row[key] / unit, row["Dice, %"], row["standard error"]) for row in rows if row["kind"] == kind)
            if found:
                x, y, error = zip(*found, strict=True)
                style = "o-" if len(found) > 2 else "o"
                axes.errorbar(x, y, error, fmt=style, color=colour, label=text, capsize=3, linewidth=1.2)
        axes.set(xscale="log", xlabel=label)
        ticks = LogLocator(subs=(1, 2, 5))
        axes.xaxis.set(major_locator=ticks, major_formatter=ScalarFormatter(), minor_formatter=NullFormatter())
        plain(axes)
    places[0].set_ylabel("Dice on test subjects, %")
    places[0].legend(fontsize=8, loc="lower right")
    save(figure, path)


program = Program(
    "frontier",
    frontier,
    {"repeats": 15, "seconds": 4.0},
    without=frozenset({"compile", "precision"}),
    block="frontier",
    draw=draw,
)

if __name__ == "__main__":
    program()
