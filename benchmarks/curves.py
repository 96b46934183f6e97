"""Learning curves of a study: validation IoU against the epoch and against time, the mean over the trainings of a model.

python -m benchmarks.curves benchmarks/results/folds_cpu --models convtwin,best,ukan,unet --figure docs/evidence/curves.svg
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray
from typer import Argument, Option

from allukan.errors import UserError
from allukan.files import read_table
from allukan.report import palette, plain
from benchmarks.pages import save
from benchmarks.program import Program, listed, names
from benchmarks.report import Result, Row


def curves(
    study: Annotated[Path, Argument(help="Folder of a study.", show_default=False)],
    models: Annotated[str, listed("Of the study, the others are held against the first that a set has")] = "convtwin,best",
    share: Annotated[float, Option(min=0, max=1, help="Of the best mean of the first model, to be reached.")] = 0.95,
) -> Result:
    """How high the mean curve of every model comes, and after how many epochs and minutes it reaches a share of the first's best.

    An epoch takes as long as the fastest of a training, which other work on the machine held up least; the mean over trainings.
    """
    chosen, rows = names(models), list[Row]()
    for data in sorted(path.parent.name for path in study.glob("*/clean")):
        goal = None
        for model in chosen:
            found = [read_table(path) for path in sorted(study.glob(f"{data}/clean/{model}/*/history.csv"))]
            if not found:
                continue
            curve = np.mean([[float(row["val_iou"]) for row in history] for history in found], axis=0)
            minutes = float(np.mean([min(float(row["seconds"]) for row in history) for history in found])) / 60
            goal = share * float(curve.max()) if goal is None else goal
            rows.append({"data": data, "model": model, "trainings": len(found)} | _arrival(curve, minutes, goal))
    if not rows:
        raise UserError(f"{study} has no history of {', '.join(chosen)} by the protocol clean.")
    return Result(rows)


def _arrival(curve: NDArray[np.float64], minutes: float, goal: float) -> Row:
    there = np.flatnonzero(curve >= goal)
    epochs = int(there[0]) + 1 if len(there) else None
    return {
        "best mean IoU": round(float(curve.max()), 4),
        "epochs": len(curve),
        "epochs to goal": epochs,
        "minutes an epoch": round(minutes, 3),
        "minutes to goal": None if epochs is None else round(epochs * minutes, 2),
        "curve": [round(float(value), 4) for value in curve],
    }


def draw(path: Path, rows: Sequence[Row], where: Row) -> None:
    """A column a data set: against epochs above, against minutes below."""
    sets = list(dict.fromkeys(row["data"] for row in rows))
    models = list(dict.fromkeys(row["model"] for row in rows))
    figure = Figure(figsize=(3.6 * len(sets), 5.2), layout="constrained", dpi=110)
    places = figure.subplots(2, len(sets), squeeze=False, sharey="col")
    for row in rows:
        for axes, scale, label in zip(
            places[:, sets.index(row["data"])], (1.0, row["minutes an epoch"]), ("epoch", "minutes"), strict=True
        ):
            colour = palette.pick(palette.LINES, models.index(row["model"]))
            axes.plot(scale * np.arange(1, row["epochs"] + 1), row["curve"], color=colour, label=row["model"], linewidth=1.4)
            axes.set_xlabel(label)
            axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
            plain(axes)
    for axes, name in zip(places[0], sets, strict=True):
        axes.set_title(name, loc="left", fontsize=9)
    places[0, 0].legend(fontsize=8, loc="lower right")
    figure.supylabel("validation IoU, mean over trainings", fontsize=9)
    save(figure, path)


program = Program("curves", curves, draw=draw)

if __name__ == "__main__":
    program()
