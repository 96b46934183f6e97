"""What evaluated runs say: read from their folders, for ``compare``."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from allukan.costs import parameter_count
from allukan.errors import UserError
from allukan.files import read_json, read_table
from allukan.inference import check_current
from allukan.inference.evaluation import SUBSETS
from allukan.models import load_card, outline_saved
from allukan.report import HEADINGS
from allukan.scores import AREAS, METRICS, check_complete, group_dice
from allukan.study.folds import GROUP_DICE as GROUP_DICE
from allukan.study.folds import join_folds, part_folds
from allukan.study.trials import TUNE

SCORES = {**HEADINGS, GROUP_DICE: "group Dice"}  # what runs can be compared by, and how it is called
Scores = dict[str, dict[str, float]]  # score: image (of GROUP_DICE: group): mean over its classes


@dataclass(frozen=True)
class Result:
    """One evaluation of one run.

    Attributes:
        folder: of the run, of several folds the first.
        data: name of the data set, "TRAIN → TEST" where they are two.
        protocol: of the training.
        model: its name.
        seed: of the run.
        scores: every metric of every image, and where ``cases.csv`` has areas the Dice of every group.
        groups: of every image.
        minutes: of the training, validation included; of folds the mean of one; NaN where no ``history.csv`` says.
        summary: as ``evaluate`` wrote it.
        truths: pixels of the masks of every image, where ``cases.csv`` has them.
        folds: the trainings that it is made of, each with its own images; none of a single training.
    """

    folder: Path
    data: str
    protocol: str
    model: str
    seed: int
    scores: Scores
    groups: dict[str, str]
    minutes: float
    summary: dict[str, Any]
    truths: dict[str, tuple[str, ...]] = field(default_factory=dict)
    folds: tuple[Result, ...] = ()

    def mean(self, metric: str) -> float:
        """Over the images, of ``GROUP_DICE`` over the groups. Raises ``UserError`` for scores of before there were areas."""
        if metric not in self.scores:
            raise UserError(
                f"{self.folder} was evaluated before cases.csv had {', '.join(AREAS)}, of which {metric} is made: "
                f"run allukan evaluate {self.folder} again."
            )
        return float(np.mean(list(self.scores[metric].values())))


def read_results(folders: Sequence[Path]) -> list[Result]:
    """Of one study folder, every evaluated trial; of run folders, each as a model of its own, named as its folder.

    Raises ``UserError`` when there is nothing to compare.
    """
    if len(folders) == 1 and not (folders[0] / "config.yaml").is_file():
        found = _of_study(folders[0])
        if not found:
            raise UserError(f"{folders[0]} holds no evaluated run of a study: run allukan study first.")
        return found
    if len(folders) < 2:
        raise UserError(f"{folders[0]} is one run: give the runs to compare it with, or the folder of a study.")
    if len({folder.resolve().name for folder in folders}) < len(folders):
        raise UserError("two of the runs have the same folder name, by which they are told apart: rename one.")
    for folder in folders:
        if not (folder / "evaluation" / "summary.json").is_file():
            raise UserError(f"{folder} has not been evaluated yet: run allukan evaluate {folder} first.")
    return _alike([part_folds(_read(folder, "evaluation", "", "", folder.resolve().name)) for folder in folders])


def _alike(results: Sequence[Result]) -> list[Result]:
    """Runs that somebody picked by hand must be of one data set, protocol and test set; then they pair, whatever their seeds."""
    first = results[0]
    for other in results[1:]:
        if (other.data, other.protocol) != (first.data, first.protocol):
            raise UserError(
                f"{first.folder} was tested on {first.data} by protocol {first.protocol} and {other.folder} on {other.data} by "
                f"{other.protocol}: only runs with the same test images can be paired."
            )
        check_same_images(first, other)
    return [replace(result, seed=first.seed) for result in results]


def _of_study(out: Path) -> list[Result]:
    order = read_json(out / "study.json") if (out / "study.json").is_file() else {}

    def place(result: Result) -> tuple[Any, ...]:
        names = [(result.data.split(" → ")[0], "data"), (result.protocol, "protocols"), (result.model, "models")]
        known = [list(order.get(section, ())) for _, section in names]
        keys = [(k.index(n) if n in k else len(k), n) for (n, _), k in zip(names, known, strict=True)]
        return keys[0], result.data, *keys[1:], result.seed

    found = []
    subsets = set(SUBSETS) - {*order.get("data", ()), *order.get("test_data", ())}  # of evaluate --subset: no data sets
    for summary in out.glob("*/*/*/*/evaluation*/summary.json"):
        *_, data, protocol, model, _, kind, _ = summary.parts
        finished = (summary.parent.parent / "finished.json").is_file()
        test = kind.removeprefix("evaluation").removeprefix("-")
        if finished and protocol != TUNE and test not in subsets:
            found.append(_read(summary.parent.parent, kind, f"{data} → {test}" if test else data, protocol, model))
    return sorted(join_folds(found), key=place)


def _read(folder: Path, kind: str, data: str, protocol: str, model: str) -> Result:
    summary, rows = read_json(folder / kind / "summary.json"), read_table(folder / kind / "cases.csv")
    for row in rows:
        check_complete(row, folder / kind / "cases.csv", folder)
    scores = {metric: _means((row["id"], float(row[metric])) for row in rows) for metric in METRICS}
    if all(area in row for row in rows for area in AREAS):
        scores[GROUP_DICE] = _means((group, dice) for (group, _), dice in group_dice(rows).items())
    groups = {row["id"]: row["group"] for row in rows}
    check_current(summary, folder / kind, folder)
    if kind == "evaluation" and summary.get("subset", "test") != "test":
        raise UserError(f"{folder / kind} holds the scores of {summary['subset']} images: run allukan evaluate {folder} anew.")
    data, protocol = data or Path(summary["data"]).name, protocol or summary["protocol"]
    return Result(folder, data, protocol, model, summary["seed"], scores, groups, _minutes(folder), summary, _truths(rows))


def _truths(rows: Sequence[Mapping[str, str]]) -> dict[str, tuple[str, ...]]:
    found: dict[str, tuple[str, ...]] = {}
    for row in rows:
        if "truth_pixels" in row:
            found[row["id"]] = (*found.get(row["id"], ()), row["truth_pixels"])
    return found


def _minutes(folder: Path) -> float:
    """Of a training, or of one of its folds."""
    histories = [folder / "history.csv"] if (folder / "history.csv").is_file() else sorted(folder.glob("fold-*/history.csv"))
    found = [sum(float(row["seconds"]) for row in read_table(path)) / 60 for path in histories]
    return float(np.mean(found)) if found else math.nan


def _means(scores: Iterable[tuple[str, float]]) -> dict[str, float]:
    """Over the classes of every name."""
    found: dict[str, list[float]] = {}
    for name, score in scores:
        found.setdefault(name, []).append(score)
    return {name: float(np.mean(values)) for name, values in found.items()}


def sections(results: Sequence[Result]) -> dict[tuple[str, str], dict[str, list[Result]]]:
    """Results by data set and protocol, then by model, all in their order."""
    found: dict[tuple[str, str], dict[str, list[Result]]] = {}
    for result in results:
        found.setdefault((result.data, result.protocol), {}).setdefault(result.model, []).append(result)
    return found


def check_same_images(a: Result, b: Result) -> None:
    """``UserError`` unless both were tested on the same images with the same masks, and their distances are in one unit."""
    units = [result.summary.get("distance_unit", "pixel") for result in (a, b)]
    if units[0] != units[1]:
        raise UserError(f"{a.folder} has distances in {units[0]} and {b.folder} in {units[1]}: evaluate both alike.")
    for name in a.truths.keys() & b.truths.keys():
        if sorted(a.truths[name]) != sorted(b.truths[name]):
            raise UserError(
                f"{a.folder} and {b.folder} were scored against other masks or classes of image {name!r}: "
                "evaluate both on the same data, with the same --map."
            )
    odd = sorted(set(a.groups) ^ set(b.groups))
    if odd:
        has, lacks = (a, b) if odd[0] in a.groups else (b, a)
        raise UserError(
            f"{has.folder} was tested on image {odd[0]!r} and {lacks.folder} was not: only runs with the same test images "
            "(the same data, protocol and seed) can be paired."
        )


def parameters(results: Iterable[Result], trust: bool = False) -> int:
    """Of the first one's model; foreign code is imported with ``trust`` alone."""
    folder = next(iter(results)).folder
    model = (folder if (folder / "model").is_dir() else folder / "fold-0") / "model"
    return parameter_count(outline_saved(model, load_card(model), trust))
