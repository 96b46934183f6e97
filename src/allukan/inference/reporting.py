"""What the HTML report shows of a run: curves, scores, overlays and every learned activation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from allukan.costs import parameter_count
from allukan.errors import UserError
from allukan.files import read_json, read_table
from allukan.inference.evaluation import Run, read_truth
from allukan.inference.inputs import match_files
from allukan.inference.matching import match_classes
from allukan.inference.predictor import Predictor
from allukan.models import ka_layers
from allukan.report import Activation, Overlay, RunReport, write_report
from allukan.scores import check_complete


def report(runs: Sequence[Run], out: Path, title: str, device: str = "auto", trust: bool = False) -> Path:
    """One self-contained HTML page on evaluated runs side by side; returns its path.

    Raises ``UserError`` for a run that has not been evaluated yet.
    """
    return write_report([describe(run, Predictor(run.folder / "model", device, trust=trust)) for run in runs], out, title)


def describe(run: Run, predictor: Predictor) -> RunReport:
    """Everything the report says about one run."""
    card, splits = predictor.card, run.splits
    if card.spatial_dims == 3:
        raise UserError(f"{run.folder} was trained on volumes, and the report shows pictures only: see its evaluation/ instead.")
    summary_file = run.folder / "evaluation" / "summary.json"
    if not summary_file.is_file():
        raise UserError(f"{run.folder} has not been evaluated yet: run allukan evaluate {run.folder} first.")
    summary = read_json(summary_file)
    check_complete(summary["overall"], summary_file, run.folder)
    facts = {
        "model": card.model,
        "parameters": f"{parameter_count(predictor.model):,}",
        "input": f"{card.in_channels} × {card.size[0]} × {card.size[1]}",
        "classes": ", ".join(card.classes),
        "protocol": f"{splits.protocol}, seed {splits.seed}",
        "split": splits.origin,
        "images": f"{len(splits.train)} train, {len(splits.val)} validation, {len(splits.test)} test",
        "epochs": str(run.config["epochs"]),
        "allukan": card.version,
    }
    return RunReport(
        name=run.folder.name,
        history=_history(run.folder / "history.csv"),
        summary=summary,
        overlays=_overlays(run, predictor, summary),
        activations=_activations(predictor),
        facts=facts,
    )


def _history(path: Path) -> list[dict[str, float]]:
    return [{name: float(value) for name, value in row.items()} for row in read_table(path)]


def _overlays(run: Run, predictor: Predictor, summary: Mapping[str, Any]) -> list[Overlay]:
    """The worst, the median and the best case by Dice, averaged over classes; correctly empty ones have nothing to show."""
    scores: dict[str, list[float]] = {}
    for row in read_table(run.folder / "evaluation" / "cases.csv"):
        if row["status"] != "both_empty":
            scores.setdefault(row["id"], []).append(float(row["dice"]))
    ranked = sorted(scores, key=lambda case_id: (float(np.mean(scores[case_id])), case_id))
    if not ranked:
        return []
    dataset = match_files(run.open_data(summary["data"]), predictor.card)
    match = match_classes(dataset, predictor.card, summary.get("mapping"))
    chosen = {"worst": ranked[0], "median": ranked[len(ranked) // 2], "best": ranked[-1]}
    overlays = []
    for title, case in zip(chosen, dataset.select(tuple(chosen.values())), strict=True):
        found: Any = read_truth(case, dataset, match, predictor.card)
        masks = predictor(found.image).masks
        overlays.append(Overlay(case.id, title, found.image, found.masks, masks, float(np.mean(scores[case.id]))))
    return overlays


def _activations(predictor: Predictor) -> list[Activation]:
    curves = []
    for name, layer in ka_layers(predictor.model).items():
        if layer.spline.sharing == "edge":  # one curve an edge: far too many to look at
            continue
        t, values = layer.activation_curves()
        curves.append(Activation(name, t.cpu().numpy(), values.cpu().numpy()))
    return curves
