"""What the mean over flips is worth (``predict --tta``): the trained runs of a study, each on its test images.

python -m benchmarks.tta runs/folds_cpu --models convtwin,best --out benchmarks/results/tta_cpu.json
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import numpy as np
from typer import Argument

from allukan.errors import UserError
from allukan.files import read_table
from allukan.inference import Predictor, evaluate, open_run
from allukan.scores import crossed_difference
from allukan.study.differences import ACROSS
from allukan.study.results import Result as Trained
from allukan.study.results import read_results
from benchmarks.program import Program, listed, names
from benchmarks.report import Result, Row


def tta(
    study: Annotated[Path, Argument(help="Folder of a study, with its weights.", show_default=False)],
    models: Annotated[str, listed("Of the study")] = "convtwin,best",
) -> Result:
    """IoU of the test images without and with test-time augmentation, paired, over trainings and groups of images."""
    chosen = names(models)
    runs: dict[tuple[str, str], list[Trained]] = {}
    for result in read_results([study]):
        if result.model in chosen and ACROSS not in result.data:
            runs.setdefault((result.data, result.model), []).extend(result.folds or (result,))
    if not runs:
        raise UserError(f"{study} has no model {', '.join(chosen)}.")
    return Result([_row(*key, found) for key, found in runs.items()])


def _row(data: str, model: str, runs: Sequence[Trained]) -> Row:
    plain, flipped = [run.scores["iou"] for run in runs], [_with_flips(run.folder) for run in runs]
    groups = {image: group for run in runs for image, group in run.groups.items()}
    table = [[b[image] - a[image] if image in a else np.nan for image in groups] for a, b in zip(plain, flipped, strict=True)]
    of = crossed_difference(table, list(groups.values()))
    before, after = (np.mean([iou for scores in found for iou in scores.values()]) for found in (plain, flipped))
    figures: dict[str, Any] = {"IoU": before, "IoU with flips": after, "difference": of.mean, "standard error": of.se}
    return {"data": data, "model": model, "trainings": len(runs)} | {name: round(float(x), 4) for name, x in figures.items()}


def _with_flips(run: Path) -> dict[str, float]:
    """IoU of every test image, the mean over its classes."""
    with TemporaryDirectory() as out:
        evaluate(open_run(run), predictor=Predictor(run / "model", "cpu", tta=True), out=Path(out))
        rows = read_table(Path(out) / "cases.csv")
    found: dict[str, list[float]] = {}
    for row in rows:
        found.setdefault(str(row["id"]), []).append(float(row["iou"]))
    return {image: float(np.mean(values)) for image, values in found.items()}


program = Program("tta", tta)

if __name__ == "__main__":
    program()
