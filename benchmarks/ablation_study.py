"""What single changes are worth on validation images: runs of `allukan study` paired with their reference by data set and seed.

python -m benchmarks.ablation_study STUDY… --against default --out RESULT.json --page PAGE.md

A run counts with its mean IoU on validation over the last three epochs, where the learning rate is all but zero: the best epoch
would reward noise. No test image takes part.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from statistics import fmean, stdev
from typing import Annotated, Any

from typer import Argument, Option

from allukan.errors import UserError
from allukan.files import read_table
from allukan.yaml_files import read_yaml
from benchmarks.program import Program
from benchmarks.report import Result, Row

LAST = 3  # epochs
Run = tuple[str, int]  # data set, seed
NOT_OF_THE_MODEL = ("data", "out", "seed", "groups", "accelerator", "devices")


def read_runs(folders: Iterable[Path]) -> tuple[dict[str, dict[Run, dict[str, float]]], dict[str, dict[str, Any]]]:
    """Figures of every finished run by model and by (data set, seed), and what each model was trained with."""
    runs: dict[str, dict[Run, dict[str, float]]] = defaultdict(dict)
    options = {}
    for folder in folders:
        for done in sorted(folder.glob("*/clean/*/*/finished.json")):
            run, (data, _, model, seed) = done.parent, done.parts[-5:-1]
            last = read_table(run / "history.csv")[-LAST:]
            runs[model][data, int(seed)] = {name: fmean(float(row[name]) for row in last) for name in ("val_iou", "train_loss")}
            config = read_yaml(run / "config.yaml")
            options[model] = {name: value for name, value in config.items() if name not in NOT_OF_THE_MODEL}
    return runs, options


def rows_of(runs: dict[str, dict[Run, dict[str, float]]], options: dict[str, dict[str, Any]], against: str) -> list[Row]:
    """A row a model, the reference first and the others from the best difference down."""
    if against not in runs:
        raise UserError(f"no run of {against!r} is finished: there are {', '.join(runs) or 'none at all'}.")
    reference, rows = runs[against], []
    for model, found in runs.items():
        pairs = [run for run in found if run in reference]
        if not pairs:
            continue
        differences = {run: 100 * (found[run]["val_iou"] - reference[run]["val_iou"]) for run in pairs}
        row: Row = {"model": model, "runs": len(pairs)}
        row["validation IoU, %"] = round(100 * fmean(found[run]["val_iou"] for run in pairs), 2)
        row["difference"] = round(fmean(differences.values()), 2)
        row["standard error"] = round(stdev(differences.values()) / math.sqrt(len(pairs)), 2) if len(pairs) > 1 else None
        for data in dict.fromkeys(run[0] for run in reference):
            of_data = [difference for run, difference in differences.items() if run[0] == data]
            row[data] = round(fmean(of_data), 2) if of_data else None
        row["training loss"] = round(fmean(found[run]["train_loss"] for run in pairs), 3)
        row["differences"] = [[*run, round(difference, 3)] for run, difference in differences.items()]
        row["options"] = options[model]
        rows.append(row)
    return sorted(rows, key=lambda row: (row["model"] != against, -row["difference"]))


def ablation(
    studies: Annotated[list[Path], Argument(help="Folders of studies.", show_default=False)],
    against: Annotated[str, Option(help="The model that the others are paired with.")] = "default",
) -> Result:
    """What single changes are worth on validation images, paired by data set and seed."""
    return Result(rows_of(*read_runs(studies), against))


program = Program("ablation study", ablation, block="ablation")


if __name__ == "__main__":
    program()
