"""What the HTML report says of runs: scores as ``evaluate`` wrote them, and what the model says when it is applied once more."""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from allukan.costs import inspect_model, parameter_count
from allukan.data import Dataset
from allukan.errors import UserError
from allukan.files import read_json, read_table, read_text
from allukan.inference.ensemble import Ensemble
from allukan.inference.evaluation import Run, open_run, read_truth
from allukan.inference.folds import joined, open_folds, open_segmenter
from allukan.inference.inputs import match_files
from allukan.inference.matching import ClassMatch, match_classes
from allukan.inference.picturing import picture_of
from allukan.inference.predictor import Predictor
from allukan.inference.segmenter import Progress, Segmenter
from allukan.inference.state import check_current
from allukan.models import is_foreign
from allukan.provenance import environment
from allukan.report import BOTH_EMPTY, Paired, Picture, Probabilities, RunReport, Score, by_case, write_report
from allukan.scores import METRICS, Calibration, check_complete

ROOM = 2_100_000  # bytes of pictures in a page
_EXAMPLES = 4


@dataclass(frozen=True)
class Evaluated:
    """What a page tells of: a run, or the folds of one, and the folder of its scores."""

    folder: Path
    runs: tuple[Run, ...]
    evaluation: Path

    @classmethod
    def of(cls, folder: str | Path, evaluation: Path | None = None) -> Evaluated:
        """Of a run or a training in folds; ``evaluation`` is another folder that ``evaluate`` wrote about it.

        Raises ``UserError`` as ``open_run`` and ``open_folds``.
        """
        folder = Path(folder)
        folds = tuple(open_folds(folder))
        return cls(folder, folds or (open_run(folder),), evaluation or folder / "evaluation")

    @property
    def summary(self) -> dict[str, Any]:
        """As ``evaluate`` wrote it; ``UserError`` where it did not."""
        file = self.evaluation / "summary.json"
        if not file.is_file():
            where = self.evaluation if self.evaluation.parent != self.folder else self.folder
            raise UserError(f"{where} has not been evaluated yet: run allukan evaluate {self.folder} first.")
        summary: dict[str, Any] = read_json(file)
        check_complete(summary["overall"], file, self.folder)
        if len(self.runs) > 1:
            if summary["splits_from"] != self._together.splits.origin:
                raise UserError(f"{self.evaluation} is not of the folds of {self.folder} together: give --evaluation of these.")
            by = "mean of the probabilities" if self._of_other_data else "one"
            unseen = "" if self._of_other_data else " that did not see it in its training"
            note = f"every image is scored by the {by} of {len(self.runs)} folds{unseen}."
            summary["notes"] = [note, *summary.get("notes", [])]
        check_current(summary, self.evaluation, self.folder)
        return summary

    @property
    def scored(self) -> list[tuple[Run, list[dict[str, str]]]]:
        """What was scored, and the rows of it: each of the runs on its own images, or folds as one on other data."""
        rows = read_table(self.evaluation / "cases.csv")
        if len(self.runs) == 1 or self._of_other_data:
            return [(self._together, rows)]
        tests = [set(run.splits.test) for run in self.runs]
        return [(run, [row for row in rows if row["id"] in test]) for run, test in zip(self.runs, tests, strict=True)]

    @property
    def _of_other_data(self) -> bool:
        return self.evaluation.resolve() != (self.folder / "evaluation").resolve()

    @property
    def _together(self) -> Run:
        return self.runs[0] if len(self.runs) == 1 else joined(self.folder, self.runs)


def report(
    runs: Sequence[Run | Evaluated],
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
    shown = [run if isinstance(run, Evaluated) else Evaluated(run.folder, (run,), run.folder / "evaluation") for run in runs]
    for each in shown:
        _ = each.summary  # what is not evaluated is told before anything is computed
    names = names or [each.folder.resolve().name for each in shown]
    described = []
    for place, (name, each) in enumerate(zip(names, shown, strict=True)):

        def show(done: int, total: int, place: int = place) -> None:
            progress(place * total + done, len(shown) * total)

        described.append(describe(name, each, ROOM // len(shown), device, trust, show))
    return write_report(described, out, title, paired)


def describe(name: str, what: Evaluated, room: int, device: str, trust: bool, progress: Progress) -> RunReport:
    """Everything the report says about one run or its folds, with pictures of at most ``room`` bytes."""
    summary, applied, rows = what.summary, _Applied(), list[dict[str, str]]()
    scored = what.scored
    total = sum(len({row["id"] for row in table}) for _, table in scored)
    trained, tested = _root(what.runs[0]), Path(summary["data"]).resolve()
    own = tested == trained and what.evaluation.resolve() == (what.folder / "evaluation").resolve()
    how = {"device": device, "mode": summary.get("mode"), "tta": summary.get("tta", False), "trust": trust}
    for run, table in scored:
        predictor = open_segmenter(run.folder, partial(Predictor, **how))
        dataset = match_files(run.open_data(None if own else summary["data"]), predictor.card)
        match = match_classes(dataset, predictor.card, summary.get("mapping"))
        names = _ranked([_score(row) for row in table])
        _apply(predictor, dataset, match, names, room // len(scored), applied, lambda done: progress(done, total))
        rows += table
    histories = [_history(run) for run in what.runs]
    first, single = what.runs[0], len(what.runs) == 1
    return RunReport(
        name=name,
        model=predictor.card.model,
        data=trained.name,
        kind="volumes" if predictor.card.spatial_dims == 3 else "images",
        classes=predictor.card.classes,
        counts=_counts(what.runs),
        summary=summary,
        scores=[_score(row) for row in rows],
        size_unit="ml" if "truth_ml" in rows[0] else "voxels" if predictor.card.spatial_dims == 3 else "pixels",
        history=histories[0] if single else (),
        facts=_facts(first, predictor, histories, applied),
        probabilities=_probabilities(predictor, match, applied),
        pictures=applied.pictures,
        examples=_examples(first, predictor),
        options=read_text(what.folder / "config.yaml"),
        commands=_commands(what),
        tested=tested.name if tested != trained else "",
        folds=len(what.runs),
    )


def _root(run: Run) -> Path:
    """The folder of the data of the training, which may have been given as one of the lists in it."""
    data = Path(run.config["data"]).resolve()
    return data.parent if data.suffix.lower() == ".json" else data


def _counts(runs: Sequence[Run]) -> dict[str, str]:
    """How many images every part has, from the fewest of a fold to the most."""
    found = [run.splits.counts for run in runs]
    return {part: " to ".join(str(n) for n in sorted({f(one[part] for one in found) for f in (min, max)})) for part in found[0]}


def _history(run: Run) -> list[dict[str, float]]:
    return [{key: float(value) for key, value in row.items()} for row in read_table(run.folder / "history.csv")]


def _score(row: Mapping[str, str]) -> Score:
    sizes = [float(row.get(f"{of}_ml") or row.get(f"{of}_pixels") or "nan") for of in ("truth", "predicted")]
    return Score(row["id"], row["class"], row["status"], {name: float(row[name]) for name in METRICS}, *sizes)


def _ranked(scores: Sequence[Score]) -> list[str]:
    """Names of cases, the worst first; those that are rightly empty last."""
    found = by_case(scores)

    def place(name: str) -> tuple[bool, float, str]:
        rows = found[name]
        return all(row.status == BOTH_EMPTY for row in rows), float(np.mean([row.metrics["dice"] for row in rows])), name

    return sorted(found, key=place)


@dataclass
class _Applied:
    """What comes of applying a model to its cases."""

    calibrations: list[Calibration] = field(default_factory=list)
    pictures: dict[str, Picture] = field(default_factory=dict)
    seconds: list[float] = field(default_factory=list)


def _apply(
    predictor: Segmenter,
    dataset: Dataset,
    match: ClassMatch,
    names: Sequence[str],
    room: int,
    applied: _Applied,
    progress: Callable[[int], None],
) -> None:
    """Predict the cases in this order, and keep pictures as long as there is room."""
    scored, pictured = np.array(match.scored), False
    for case in dataset.select(tuple(names)):
        found = read_truth(case, dataset, match, predictor.card)
        started = time.perf_counter()
        prediction = predictor(found.image)
        applied.seconds.append(time.perf_counter() - started)
        said = prediction.probabilities[-len(scored) :][scored][:, found.counts[0]]
        applied.calibrations.append(Calibration.of(said, found.masks[scored][:, found.counts[0]]))
        if room > 0:
            picture = picture_of(found.image, found.masks[scored], (prediction.masks & found.counts)[scored])
            room -= picture.size
            if room > 0 or not pictured:
                applied.pictures[case.id], pictured = picture, True
        progress(len(applied.seconds))


def _probabilities(predictor: Segmenter, match: ClassMatch, applied: _Applied) -> Probabilities:
    found, card = Calibration.join(applied.calibrations), predictor.card
    classes = tuple(name for name, scored in zip(card.classes, match.scored, strict=True) if scored)
    said, share, _ = found.reliability()
    threshold = None if card.target == "multiclass" else card.threshold
    return Probabilities(classes, said, share, found.ece(), found.dice(), threshold)


def _examples(run: Run, predictor: Segmenter) -> list[tuple[str, Picture]]:
    """Some images of the training, evenly spaced, with their truth; none where they are gone, as where others are scored."""
    if not Path(run.config["data"]).exists():
        return []
    dataset = match_files(run.open_data(), predictor.card)
    match = match_classes(dataset, predictor.card)
    ids = run.splits.train
    some = tuple(dict.fromkeys(ids[place * len(ids) // _EXAMPLES] for place in range(_EXAMPLES)))
    examples = []
    for case in dataset.select(some):
        found = read_truth(case, dataset, match, predictor.card)
        examples.append((case.id, picture_of(found.image, found.masks, found.masks)))
    return examples


def _facts(
    run: Run, segmenter: Segmenter, histories: Sequence[Sequence[Mapping[str, float]]], applied: _Applied
) -> dict[str, str]:
    predictor = segmenter.members[0] if isinstance(segmenter, Ensemble) else segmenter
    assert isinstance(predictor, Predictor)
    card, splits = predictor.card, run.splits
    here = environment(predictor.device)
    history = [row for one in histories for row in one]
    bends = [row["bend"] for row in history if np.isfinite(row.get("bend", np.nan))]
    seconds = sum(row.get("seconds", 0.0) for row in history)
    facts = {
        "model": card.model,
        "parameters": f"{parameter_count(predictor.model):,}",
        "input": " × ".join(map(str, (card.in_channels, *card.size))),
        "protocol": f"{splits.protocol}, seed {splits.seed}",
        "split": splits.origin,
        "epochs": ", ".join(str(len(one)) for one in histories),
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


def _commands(what: Evaluated) -> list[str]:
    folder = str(what.folder)
    of = [] if what.evaluation == what.folder / "evaluation" else ["--evaluation", str(what.evaluation)]
    return [
        shlex.join(["allukan", "train", "--config", str(what.folder / "config.yaml"), "--out", "AGAIN"]),
        "allukan evaluate AGAIN",
        shlex.join(["allukan", "report", folder, *of]),
        shlex.join(["allukan", "inspect", str(what.runs[0].folder / "model"), "--atlas"]) + "  # what its splines learned",
    ]
