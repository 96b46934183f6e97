"""Which differences between models are more than chance: paired by image, corrected for their number."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from allukan.errors import UserError
from allukan.files import read_json
from allukan.report import DISTANCES, HEADINGS
from allukan.scores import METRICS, holm, paired_difference
from allukan.study.results import Result, check_same_images, parameters, read_results
from allukan.study.tables import Interval, Spread, Table

_POOLED = ("iou_pooled", "dice_pooled", "iou_pooled_mean_of_last_50_epochs")


@dataclass(frozen=True)
class Difference:
    """Of one model against the reference, ``model - reference``.

    Attributes:
        data: data set.
        protocol: of the trainings.
        model: name.
        seeds: that both models have.
        images: that were paired.
        groups: independent ones among them.
        mean: over the images.
        low: end of the 95 % bootstrap interval, drawn by groups.
        high: its other end.
        p: of Wilcoxon's signed-rank test.
        p_holm: the same, corrected for the number of comparisons.
    """

    data: str
    protocol: str
    model: str
    seeds: int
    images: int
    groups: int
    mean: float
    low: float
    high: float
    p: float
    p_holm: float = 1.0


@dataclass(frozen=True)
class Comparison:
    """The tables, and the differences behind the last of them, of which the figure is drawn."""

    tables: tuple[Table, ...]
    differences: tuple[Difference, ...]
    reference: str
    metric: str


def compare(folders: Sequence[str | Path], against: str | None = None, metric: str = "iou") -> Comparison:
    """Compare the runs of a study folder, or several evaluated run folders with the same test images.

    Every model is paired with the reference ``against`` (the first, unless named) by data set and protocol: within a seed
    both were tested on the same images; the differences of an image are averaged over its classes and over the seeds that
    tested it, so that an image counts once. The interval draws whole groups (patients, sequences), Wilcoxon's test compares
    the means of groups, and Holm's correction goes over all comparisons that are shown. These say how the trained models differ
    on other images; what another seed changes is the spread (standard deviation over seeds) in the table of scores.

    Raises:
        UserError: nothing to compare, an unknown reference or metric, or test images that differ.
    """
    if metric not in METRICS:
        raise UserError(f"unknown metric {metric!r}: choose one of {', '.join(METRICS)}.")
    paths = [Path(folder) for folder in folders]
    results = read_results(paths)
    models = list(dict.fromkeys(result.model for result in results))
    reference = against or models[0]
    if reference not in models:
        raise UserError(f"there is no model {reference!r} to compare against: choose one of {', '.join(models)}.")
    differences = _differences(results, reference, metric)
    tables = [_scores(results), _bias(results), _tuning(paths[0] / "tuning.json"), _paired(differences, reference, metric)]
    return Comparison(tuple(table for table in tables if table.rows), tuple(differences), reference, metric)


def _sections(results: Sequence[Result]) -> dict[tuple[str, str], dict[str, list[Result]]]:
    """Results by data set and protocol, then by model, all in their order."""
    found: dict[tuple[str, str], dict[str, list[Result]]] = {}
    for result in results:
        found.setdefault((result.data, result.protocol), {}).setdefault(result.model, []).append(result)
    return found


def _differences(results: Sequence[Result], reference: str, metric: str) -> list[Difference]:
    found = []
    for (data, protocol), models in _sections(results).items():
        for model in models:
            if model != reference:
                pairs = _pairs(models[model], models.get(reference, []))
                found += [_difference(data, protocol, model, pairs, metric)] if pairs else []
    corrected = holm([difference.p for difference in found])
    return [replace(difference, p_holm=p) for difference, p in zip(found, corrected, strict=True)]


def _pairs(results: Sequence[Result], references: Sequence[Result]) -> list[tuple[Result, Result]]:
    """Those of the same seed."""
    by_seed = {result.seed: result for result in references}
    pairs = [(result, by_seed[result.seed]) for result in results if result.seed in by_seed]
    for a, b in pairs:
        check_same_images(b, a)
    return pairs


def _difference(data: str, protocol: str, model: str, pairs: Sequence[tuple[Result, Result]], metric: str) -> Difference:
    ours: dict[str, list[float]] = {}
    theirs: dict[str, list[float]] = {}
    groups: dict[str, str] = {}
    for a, b in pairs:
        groups |= b.groups
        for name, score in a.scores[metric].items():
            ours.setdefault(name, []).append(score)
            theirs.setdefault(name, []).append(b.scores[metric][name])
    means = [[float(np.mean(found[name])) for name in ours] for found in (ours, theirs)]
    of_images = [groups[name] for name in ours]
    figures = paired_difference(means[0], means[1], of_images)
    return Difference(data, protocol, model, len(pairs), len(ours), len(set(of_images)), **figures)


def _spread(values: Sequence[float]) -> Spread:
    return Spread(float(np.mean(values)), float(np.std(values, ddof=1)) if len(values) > 1 else None)


def _scores(results: Sequence[Result]) -> Table:
    distances = ", ".join(HEADINGS[metric] for metric in DISTANCES)
    rows: list[list[Any]] = []
    for (data, protocol), models in _sections(results).items():
        for model, runs in models.items():
            scores = [_spread([run.mean(metric) for run in runs]) for metric in METRICS]
            rows.append([data, protocol, model, parameters(runs), len(runs), *scores])
    return Table(
        "Scores",
        f"Mean over the test images, ± standard deviation over seeds. {distances}: lower is better.",
        ("data", "protocol", "model", "parameters", "seeds", *(HEADINGS[metric] for metric in METRICS)),
        rows,
    )


def _bias(results: Sequence[Result]) -> Table:
    rows: list[list[Any]] = []
    for (data, protocol), models in _sections(results).items():
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


def _paired(differences: Sequence[Difference], reference: str, metric: str) -> Table:
    rows: list[list[Any]] = [
        [d.data, d.protocol, d.model, d.seeds, d.images, d.groups, Interval(d.mean, d.low, d.high), d.p, d.p_holm]
        for d in differences
    ]
    better = "below" if metric in DISTANCES else "above"
    return Table(
        f"Against {reference}",
        f"Paired difference in {HEADINGS[metric]}, {better} 0 is better than {reference}: mean [95 % bootstrap interval], "
        f"p of Wilcoxon's signed-rank test, and p by Holm over all {len(rows)} comparisons.",
        ("data", "protocol", "model", "seeds", "images", "groups", f"Δ {HEADINGS[metric]}", "p", "p (Holm)"),
        rows,
    )
