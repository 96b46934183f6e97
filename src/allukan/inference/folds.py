"""Scores of a training in folds: of every image by the model that did not see it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from allukan.errors import UserError
from allukan.files import read_table, write_json, write_table
from allukan.inference.ensemble import Ensemble
from allukan.inference.evaluation import Run, evaluate, folds_of, open_run
from allukan.inference.predictor import Predictor
from allukan.inference.segmenter import Progress, Segmenter
from allukan.inference.state import weights_digest
from allukan.scores import summarise

_SHARED = ("model", "data", "subset", "protocol", "seed", "mode", "tta", "distance_unit")


def open_folds(folder: str | Path) -> list[Run]:
    """The runs ``folder/fold-0`` and so on; none where ``folder`` is a single run. ``UserError`` for a fold without a model."""
    folder, runs = Path(folder), list[Run]()
    for number in range(folds_of(folder)):
        run = folder / f"fold-{number}"
        if not (run / "model" / "config.json").is_file():
            raise UserError(f"{run} has no model yet: go on with allukan train --out {folder} --resume.")
        runs.append(open_run(run))
    return runs


def joined(folder: Path, runs: Sequence[Run]) -> Run:
    """The folds as one run for other data than their own: every image of theirs was in the training of some."""
    splits = [run.splits for run in runs]
    used = tuple(sorted({name for split in splits for name in (*split.train, *split.val)}))
    first, origin = runs[0], f"drawn, {len(runs)} folds"
    return Run(folder, first.config, replace(splits[0], train=used, val=(), test=(), origin=origin))


def open_segmenter(folder: str | Path, predictor: Callable[[Path], Predictor]) -> Segmenter:
    """What predicts with a ``RUN``, its ``model`` or all the folds of a training; ``predictor`` makes one of a model folder.

    Raises ``UserError`` as ``Predictor``, ``Ensemble`` and ``open_folds``.
    """
    folder = Path(folder)
    if folds := open_folds(folder):
        return Ensemble([predictor(run.folder / "model") for run in folds])
    return predictor(folder / "model" if (folder / "model" / "config.json").is_file() else folder)


def evaluate_folds(
    folder: Path,
    runs: list[Run],
    predictor: Callable[[Path], Predictor],
    spacing_mm: tuple[float, float] | None = None,
    progress: Progress = lambda done, total: None,
) -> dict[str, Any]:
    """Evaluate the ``runs`` of ``folder``, each on its test images, and all of these together in ``folder/evaluation``.

    ``predictor`` makes one of a model folder. Returns the summary of all. Raises ``UserError`` as ``evaluate``.
    """
    counts = [len(run.splits.test) for run in runs]
    rows, parts = list[dict[str, Any]](), list[dict[str, Any]]()
    for number, run in enumerate(runs):

        def show(done: int, total: int, before: int = sum(counts[:number])) -> None:
            progress(before + done, sum(counts))

        parts.append(evaluate(run, predictor=predictor(run.folder / "model"), spacing_mm=spacing_mm, progress=show))
        rows += read_table(run.folder / "evaluation" / "cases.csv")
    out = folder / "evaluation"
    summary = {
        "folder": str(out),
        **{name: parts[0][name] for name in _SHARED},
        "splits_from": f"drawn, {len(runs)} folds",
        "weights": weights_digest(folder),
        "seen_in_training": 0,
        "mapping": {},
        "notes": list(dict.fromkeys(note for part in parts for note in part["notes"])),
        **summarise(rows),
    }
    out.mkdir(exist_ok=True)
    write_table(out / "cases.csv", rows)
    write_json(out / "summary.json", summary, indent=2)
    return summary
