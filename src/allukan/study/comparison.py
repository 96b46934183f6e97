"""The tables of a comparison: scores, what choosing the epoch is worth, tuning, and the differences."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from allukan.errors import UserError
from allukan.files import read_json
from allukan.report import DISTANCES, HEADINGS
from allukan.scores import METRICS
from allukan.study.differences import Difference, differences_table, find_differences
from allukan.study.results import GROUP_DICE, SCORES, Result, parameters, read_results, sections
from allukan.study.tables import Spread, Table

_POOLED = ("iou_pooled", "dice_pooled", "iou_pooled_mean_of_last_50_epochs")


@dataclass(frozen=True)
class Comparison:
    """The tables, and the differences behind the last of them, of which the figure is drawn."""

    tables: tuple[Table, ...]
    differences: tuple[Difference, ...]
    reference: str
    metric: str


def compare(
    folders: Sequence[str | Path],
    against: str | None = None,
    metric: str = "iou",
    detect: float | None = None,
    trust: bool = False,
) -> Comparison:
    """Compare the runs of a study folder, or several evaluated run folders with the same test images.

    Every model is paired with the reference ``against`` (the first, unless named) by data set and protocol: within a seed
    both were tested on the same images; the differences of an image are averaged over its classes. Trainings (every seed, every
    fold of it) and groups of images (patients, sequences) are both a sample: interval, p and standard errors are those of
    ``crossed_difference``, and Holm's correction goes over all comparisons that are shown. ``metric`` is one of ``METRICS`` or
    "group_dice", Dice with the pixels of all images of a group together. ``detect`` is the difference that "trainings needed"
    is about: 0.005, of distances 0.5. Models of foreign code are built, to count their parameters, with ``trust`` alone.

    Raises:
        UserError: nothing to compare, an unknown reference or metric, test images that differ, or scores without this metric.
    """
    if metric not in SCORES:
        raise UserError(f"unknown metric {metric!r}: choose one of {', '.join(SCORES)}.")
    detect = (0.5 if metric in DISTANCES else 0.005) if detect is None else detect
    if not 0 < detect < math.inf:
        raise UserError(f"no number of trainings shows a difference of {detect:g}: give one above 0.")
    paths = [Path(folder) for folder in folders]
    results = read_results(paths)
    models = list(dict.fromkeys(result.model for result in results))
    reference = against or models[0]
    if reference not in models:
        raise UserError(f"there is no model {reference!r} to compare against: choose one of {', '.join(models)}.")
    scores = _scores(results, metric, trust)
    differences = find_differences(results, reference, metric)
    paired = differences_table(differences, reference, metric, detect)
    tables = [scores, _bias(results), _tuning(paths[0] / "tuning.json"), paired]
    return Comparison(tuple(table for table in tables if table.rows), tuple(differences), reference, metric)


def _spread(values: Sequence[float]) -> Spread:
    return Spread(float(np.mean(values)), float(np.std(values, ddof=1)) if len(values) > 1 else None)


def _scores(results: Sequence[Result], metric: str, trust: bool) -> Table:
    shown = (*METRICS, GROUP_DICE) if metric == GROUP_DICE else METRICS
    distances = ", ".join(HEADINGS[metric] for metric in DISTANCES)
    pooled = " Group Dice: mean over groups, the pixels of all images of a group together." if metric == GROUP_DICE else ""
    rows: list[list[Any]] = []
    for (data, protocol), models in sections(results).items():
        for model, runs in models.items():
            scores = [_spread([run.mean(name) for run in runs]) for name in shown]
            minutes = _spread([run.minutes for run in runs])
            rows.append([data, protocol, model, parameters(runs, trust), minutes, len(runs), *scores])
    return Table(
        "Scores",
        f"Mean over the test images, ± standard deviation over seeds. {distances}: lower is better. Minutes: of one training, on "
        f"the machine that it ran on.{pooled}",
        ("data", "protocol", "model", "parameters", "minutes", "seeds", *(SCORES[name] for name in shown)),
        rows,
    )


def _bias(results: Sequence[Result]) -> Table:
    rows: list[list[Any]] = []
    for (data, protocol), models in sections(results).items():
        for model, runs in models.items():
            if protocol == "ukan" and " → " not in data:
                figures = [run.summary["ukan"] for run in runs]
                best, dice, last = ([figure[name] for figure in figures] for name in _POOLED)
                gain = [b - a for a, b in zip(last, best, strict=True)]
                rows.append([data, protocol, model, len(runs), *map(_spread, (best, dice, last, gain))])
    return Table(
        "Choosing the epoch on the test images",
        "Pooled IoU of the ukan protocol: best epoch, as the literature reports it, against the mean of the last 50 epochs.",
        ("data", "protocol", "model", "seeds", "best epoch", "its Dice", "last 50 epochs", "gain by choosing"),
        rows,
    )


def _tuning(path: Path) -> Table:
    found = read_json(path) if path.is_file() else {}
    rows: list[list[Any]] = []
    for data, models in found.items():
        for model, entry in models.items():
            options = entry["chosen"] or {}
            best = max(point["val_iou"] for point in entry["points"])
            text = ", ".join(f"{name} {value}" for name, value in options.items()) or "not done"
            rows.append([data, "clean", model, len(entry["points"]), text, best])
    return Table(
        "Tuning",
        "The same grid for every model, on one seed; the validation images alone choose.",
        ("data", "protocol", "model", "points tried", "chosen", "validation IoU"),
        rows,
    )
