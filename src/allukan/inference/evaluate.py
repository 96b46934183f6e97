"""Scores of a trained model, case by case: the function behind ``allukan evaluate``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from allukan.analysis import case_metrics, pooled_iou, summarise
from allukan.data import Case, Dataset, Splits, load_groups, open_dataset, prepare, read_image, read_masks
from allukan.errors import UserError
from allukan.files import read_table, read_text, write_json, write_table
from allukan.inference.predictor import Predictor
from allukan.models import decide

SUBSETS = ("test", "val", "train", "all")
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Run:
    """A finished training as evaluation sees it: its folder, options and splits."""

    folder: Path
    config: dict[str, Any]
    splits: Splits


def open_run(folder: str | Path) -> Run:
    """Raises ``UserError`` when ``folder`` is not a run of ``allukan train`` with a model in it."""
    folder = Path(folder)
    for name in ("config.yaml", "splits.json", "model/config.json"):
        if not (folder / name).is_file():
            raise UserError(f"{folder} is not a finished run: {name} is missing; give the --out folder of allukan train.")
    return Run(folder, yaml.safe_load(read_text(folder / "config.yaml")), Splits.load(folder / "splits.json"))


def evaluate(
    run: Run,
    data: str | Path | None = None,
    subset: str | None = None,
    *,
    predictor: Predictor,
    out: Path | None = None,
    spacing_mm: tuple[float, float] | None = None,
    progress: Progress = lambda done, total: None,
) -> dict[str, Any]:
    """Score the model of a run on one subset of a dataset; write ``cases.csv`` and ``summary.json``; return the summary.

    Every image is scored in its own geometry. Without ``data`` the dataset of the training and its "test" subset are
    meant; with it "all" of that dataset, unless ``subset`` says otherwise. Distances are in pixels, or in mm where ``spacing_mm``
    (row, column) is given. A run of the "ukan" protocol gets that protocol's pooled figures in addition.

    Raises ``UserError`` when the classes of the dataset are not those of the model, or no case is left.
    """
    dataset = open_dataset(data or run.config["data"])
    subset = subset or ("test" if data is None else "all")
    cases = _cases(run, dataset, subset)
    card = predictor.card
    if len(dataset.classes) != len(card.classes) or dataset.target != card.target:
        raise UserError(
            f"{dataset.root} has {len(dataset.classes)} classes ({dataset.target}), the model of {run.folder} has "
            f"{len(card.classes)} ({card.target}): evaluate it on data with the same classes."
        )
    rows = _score(predictor, dataset, cases, run, spacing_mm, progress)
    summary: dict[str, Any] = {
        "model": card.model,
        "data": str(dataset.root),
        "subset": subset,
        "protocol": run.splits.protocol,
        "seed": run.splits.seed,
        "distance_unit": "mm" if spacing_mm else "pixel",
        **summarise(rows),
    }
    if run.splits.protocol == "ukan":
        summary["ukan"] = _ukan_figures(predictor, dataset, cases, run)
    out = out or run.folder / "evaluation"
    out.mkdir(parents=True, exist_ok=True)
    write_table(out / "cases.csv", rows)
    write_json(out / "summary.json", summary, indent=2)
    return summary


def _cases(run: Run, dataset: Dataset, subset: str) -> tuple[Case, ...]:
    if subset not in SUBSETS:
        raise UserError(f"unknown subset {subset!r}: choose one of {', '.join(SUBSETS)}.")
    if subset == "all":
        return dataset.cases
    run.splits.matches(dataset)
    return dataset.select(getattr(run.splits, subset))


def _score(
    predictor: Predictor,
    dataset: Dataset,
    cases: Sequence[Case],
    run: Run,
    spacing_mm: tuple[float, float] | None,
    progress: Progress,
) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    groups = load_groups(dataset, run.config.get("groups")) or {}
    for done, case in enumerate(cases, 1):
        masks = predictor(read_image(case.images)).masks
        scores = case_metrics(masks, read_masks(case, dataset).astype(bool), spacing_mm or (1.0, 1.0))
        for label, figures in zip(dataset.classes, scores, strict=True):
            rows.append({"id": case.id, "group": groups.get(case.id, case.id), "class": label, **figures})
        progress(done, len(cases))
    return rows


def _ukan_figures(predictor: Predictor, dataset: Dataset, cases: Sequence[Case], run: Run) -> dict[str, float]:
    """IoU pooled over batches of 8 at the network's size, and the mean of that figure over the last 50 epochs."""
    card = predictor.card
    data = prepare(dataset, cases, card.size, card.in_channels)
    parts = [decide(predictor.probabilities(b), card.target, card.threshold).cpu().numpy() for b in data.images.split(8)]
    iou, dice = pooled_iou(np.concatenate(parts), data.masks.numpy().astype(bool), batch_size=8)
    curve = [float(row["val_iou_pooled"]) for row in read_table(run.folder / "history.csv")]
    return {"iou_pooled": iou, "dice_pooled": dice, "iou_pooled_mean_of_last_50_epochs": float(np.mean(curve[-50:]))}
