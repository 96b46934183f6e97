"""What the HTML report says of runs: scores as ``evaluate`` wrote them, and what the model says when it is applied once more."""

from __future__ import annotations

import shlex
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from allukan.costs import inspect_model, parameter_count
from allukan.data import Dataset
from allukan.errors import UserError
from allukan.files import read_json, read_table, read_text
from allukan.inference.evaluation import Run, read_truth
from allukan.inference.inputs import match_files
from allukan.inference.matching import ClassMatch, match_classes
from allukan.inference.picturing import picture_of
from allukan.inference.predictor import Predictor
from allukan.inference.segmenter import Progress
from allukan.models import is_foreign
from allukan.provenance import environment
from allukan.report import Paired, Picture, Probabilities, RunReport, Score, write_report
from allukan.scores import METRICS, Calibration, check_complete

ROOM = 2_100_000  # bytes of pictures in a page
_EXAMPLES = 4


def report(
    runs: Sequence[Run],
    out: Path,
    title: str,
    device: str = "auto",
    trust: bool = False,
    *,
    names: Sequence[str] = (),
    paired: Paired | None = None,
    progress: Progress = lambda done, total: None,
) -> Path:
    """One self-contained HTML page on evaluated runs side by side; returns its path.

    Every model is applied to the images that it was scored on. ``names`` are those of the runs for people, without them those of
    their folders; ``paired`` is their comparison. Raises ``UserError`` for a run that has not been evaluated yet.
    """
    for run in runs:
        _summary(run)
    names = names or [run.folder.resolve().name for run in runs]
    described = []
    for place, (name, run) in enumerate(zip(names, runs, strict=True)):

        def show(done: int, total: int, place: int = place) -> None:
            progress(place * total + done, len(runs) * total)

        described.append(describe(name, run, ROOM // len(runs), device, trust, show))
    return write_report(described, out, title, paired)


def describe(name: str, run: Run, room: int, device: str, trust: bool, progress: Progress) -> RunReport:
    """Everything the report says about one run, with pictures of at most ``room`` bytes."""
    summary = _summary(run)
    predictor = Predictor(run.folder / "model", device, summary.get("mode"), summary.get("tta", False), trust)
    dataset = match_files(run.open_data(summary["data"]), predictor.card)
    match = match_classes(dataset, predictor.card, summary.get("mapping"))
    rows = read_table(run.folder / "evaluation" / "cases.csv")
    scores = [_score(row) for row in rows]
    applied = _apply(predictor, dataset, match, _ranked(scores), room, progress)
    history = [{key: float(value) for key, value in row.items()} for row in read_table(run.folder / "history.csv")]
    return RunReport(
        name=name,
        model=predictor.card.model,
        data=dataset.root.resolve().name,
        kind="volumes" if predictor.card.spatial_dims == 3 else "images",
        classes=predictor.card.classes,
        counts=run.splits.counts,
        summary=summary,
        scores=scores,
        size_unit="ml" if "truth_ml" in rows[0] else "voxels" if predictor.card.spatial_dims == 3 else "pixels",
        history=history,
        facts=_facts(run, predictor, history, applied),
        probabilities=_probabilities(predictor, match, applied),
        pictures=applied.pictures,
        examples=_examples(run, predictor),
        options=read_text(run.folder / "config.yaml"),
        commands=_commands(run),
    )


def _summary(run: Run) -> dict[str, Any]:
    file = run.folder / "evaluation" / "summary.json"
    if not file.is_file():
        raise UserError(f"{run.folder} has not been evaluated yet: run allukan evaluate {run.folder} first.")
    summary: dict[str, Any] = read_json(file)
    check_complete(summary["overall"], file, run.folder)
    return summary


def _score(row: Mapping[str, str]) -> Score:
    sizes = [float(row.get(f"{of}_ml") or row.get(f"{of}_pixels") or "nan") for of in ("truth", "predicted")]
    return Score(row["id"], row["class"], row["status"], {name: float(row[name]) for name in METRICS}, *sizes)


def _ranked(scores: Sequence[Score]) -> list[str]:
    """Names of cases, the worst first; those that are rightly empty last."""
    found: dict[str, list[float]] = {}
    for score in scores:
        found.setdefault(score.case, []).append(score.metrics["dice"] + (score.status == "both_empty"))
    return sorted(found, key=lambda name: (float(np.mean(found[name])), name))


@dataclass
class _Applied:
    """What comes of applying a model to its cases."""

    calibrations: list[Calibration] = field(default_factory=list)
    pictures: dict[str, Picture] = field(default_factory=dict)
    seconds: list[float] = field(default_factory=list)


def _apply(
    predictor: Predictor, dataset: Dataset, match: ClassMatch, names: Sequence[str], room: int, progress: Progress
) -> _Applied:
    """Predict the cases in this order, and keep pictures as long as there is room."""
    applied, scored = _Applied(), np.array(match.scored)
    for done, case in enumerate(dataset.select(tuple(names)), 1):
        found = read_truth(case, dataset, match, predictor.card)
        started = time.perf_counter()
        prediction = predictor(found.image)
        applied.seconds.append(time.perf_counter() - started)
        said = prediction.probabilities[-len(scored) :][scored][:, found.counts[0]]
        applied.calibrations.append(Calibration.of(said, found.masks[scored][:, found.counts[0]]))
        if room > 0:
            picture = picture_of(found.image, found.masks[scored], (prediction.masks & found.counts)[scored])
            room -= picture.size
            if room > 0 or not applied.pictures:
                applied.pictures[case.id] = picture
        progress(done, len(names))
    return applied


def _probabilities(predictor: Predictor, match: ClassMatch, applied: _Applied) -> Probabilities:
    found, card = Calibration.join(applied.calibrations), predictor.card
    classes = tuple(name for name, scored in zip(card.classes, match.scored, strict=True) if scored)
    said, share, _ = found.reliability()
    threshold = None if card.target == "multiclass" else card.threshold
    return Probabilities(classes, said, share, found.ece(), found.dice(), threshold)


def _examples(run: Run, predictor: Predictor) -> list[tuple[str, Picture]]:
    """Some images of the training, evenly spaced, with their truth."""
    dataset = match_files(run.open_data(), predictor.card)
    match = match_classes(dataset, predictor.card)
    ids = run.splits.train
    some = tuple(dict.fromkeys(ids[place * len(ids) // _EXAMPLES] for place in range(_EXAMPLES)))
    examples = []
    for case in dataset.select(some):
        found = read_truth(case, dataset, match, predictor.card)
        examples.append((case.id, picture_of(found.image, found.masks, found.masks)))
    return examples


def _facts(run: Run, predictor: Predictor, history: Sequence[Mapping[str, float]], applied: _Applied) -> dict[str, str]:
    card, splits = predictor.card, run.splits
    here = environment(predictor.device)
    bends = [row["bend"] for row in history if np.isfinite(row.get("bend", np.nan))]
    seconds = sum(row.get("seconds", 0.0) for row in history)
    facts = {
        "model": card.model,
        "parameters": f"{parameter_count(predictor.model):,}",
        "input": " × ".join(map(str, (card.in_channels, *card.size))),
        "protocol": f"{splits.protocol}, seed {splits.seed}",
        "split": splits.origin,
        "epochs": str(len(history)),
        "training time": f"{seconds / 60:.1f} minutes, {seconds / max(len(history), 1):.1f} s an epoch",
        "prediction time": f"{np.median(applied.seconds):.3g} s a case, {here['device']}",
    }
    if not is_foreign(card.model):
        batch = run.config["batch_size"]
        kept = inspect_model(predictor.model, (batch, card.in_channels, *card.size)).total().saved_bytes
        facts["training memory"] = f"{kept / 2**20:.1f} MiB kept for the backward pass, of {batch} inputs in float32"
    if bends:
        facts["bend"] = f"{bends[-1]:.3f} at the end, median over layers: 0 is a convolution with a fixed activation"
    return facts | {"allukan": card.version, "written with": ", ".join(f"{n} {v}" for n, v in here["versions"].items())}


def _commands(run: Run) -> list[str]:
    folder = str(run.folder)
    return [
        shlex.join(["allukan", "train", "--config", str(run.folder / "config.yaml"), "--out", "AGAIN"]),
        "allukan evaluate AGAIN",
        shlex.join(["allukan", "report", folder]),
        shlex.join(["allukan", "inspect", str(run.folder / "model"), "--atlas"]) + "  # what its splines learned",
    ]
