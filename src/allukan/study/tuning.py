"""Equal budgets: every model is tried on the same grid, and validation alone chooses."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from allukan.files import write_json
from allukan.study.trials import Trial, read_finished


def chosen(trials: Sequence[Trial], data: str, model: str) -> dict[str, Any] | None:
    """The options of the grid point with the best validation IoU, the first of equals; None while a point is not done.

    ``trials`` are all of the study.
    """
    points = [trial for trial in trials if trial.point is not None and (trial.data, trial.model) == (data, model)]
    if any(trial.state != "done" for trial in points):
        return None
    best = max(points, key=lambda trial: read_finished(trial)["val_iou"])
    return dict(best.point or {})


def write_tuning(trials: Sequence[Trial], path: Path) -> None:
    """Every grid point done with its score, and what was chosen, by data set and model, to ``tuning.json``."""
    found: dict[str, dict[str, Any]] = {}
    for trial in trials:
        if trial.point is not None and trial.state == "done":
            entry = found.setdefault(trial.data, {}).setdefault(trial.model, {"seed": trial.options["seed"], "points": []})
            entry["points"].append({**trial.point, "val_iou": read_finished(trial)["val_iou"]})
            entry["chosen"] = chosen(trials, trial.data, trial.model)
    if found:
        write_json(path, found)
