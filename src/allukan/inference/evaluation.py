"""Scores of a trained model, case by case: the function behind ``allukan evaluate``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import compress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from allukan.data import (
    Case,
    Dataset,
    LabelRules,
    Splits,
    load_groups,
    open_dataset,
    prepare,
    read_case,
    read_volume_case,
    split_ignored,
)
from allukan.data.volumes import Image
from allukan.errors import UserError, suggestion
from allukan.files import read_json, read_table, write_json, write_table
from allukan.inference.inputs import channels_of, match_files
from allukan.inference.matching import ClassMatch, match_classes
from allukan.inference.predictor import Predictor
from allukan.inference.seen import seen_in_training
from allukan.inference.segmenter import Progress, Segmenter
from allukan.inference.state import weights_digest
from allukan.models import ModelCard, to_masks
from allukan.scores import case_metrics, pooled_iou, summarise, volume_metrics
from allukan.yaml_files import read_yaml

SUBSETS = ("test", "val", "train", "all")


@dataclass(frozen=True)
class Run:
    """A finished training as evaluation sees it: its folder, options and splits."""

    folder: Path
    config: dict[str, Any]
    splits: Splits

    @property
    def label_rules(self) -> LabelRules:
        """How its training read labels."""
        return LabelRules(self.config.get("ignore"), self.config.get("foreground", False))

    def open_data(self, data: str | Path | None = None) -> Dataset:
        """The dataset of the training or another one, its labels read by the rules of the training."""
        return open_dataset(data or self.config["data"], self.label_rules, learn=False)


@dataclass(frozen=True)
class Truth:
    """Image ``(H, W, C)`` or volume of a case, masks bool ``(K, *S)`` of a model's classes, and where they count ``(1, *S)``."""

    image: NDArray[Any] | Image
    masks: NDArray[np.bool_]
    counts: NDArray[np.bool_]


def open_run(folder: str | Path) -> Run:
    """Raises ``UserError`` when ``folder`` is not a run of ``allukan train`` with a model in it."""
    folder = Path(folder)
    if count := folds_of(folder):
        raise UserError(f"{folder} has {count} folds, each a run of its own: give one of them, as {folder / 'fold-0'}.")
    if folder.name == "model" and (folder.parent / "config.yaml").is_file():
        raise UserError(f"{folder} is the model of a run: give the run, {folder.parent}.")
    for name in ("config.yaml", "splits.json", "model/config.json"):
        if not (folder / name).is_file():
            raise UserError(f"{folder} is not a finished run: {name} is missing; give the --out folder of allukan train.")
    return Run(folder, read_yaml(folder / "config.yaml"), Splits.load(folder / "splits.json"))


def folds_of(folder: Path) -> int:
    """How many folds a run folder has below it; 0 for a single run, one fold too."""
    config = read_yaml(folder / "config.yaml") if (folder / "config.yaml").is_file() else {}
    return int(config.get("folds") or 0) if config.get("fold") is None else 0


def evaluate(
    run: Run,
    data: str | Path | None = None,
    subset: str | None = None,
    *,
    predictor: Segmenter,
    out: Path | None = None,
    mapping: Mapping[str, str] | None = None,
    groups: str | None = None,
    spacing_mm: tuple[float, float] | None = None,
    progress: Progress = lambda done, total: None,
) -> dict[str, Any]:
    """Score the model of a run, or folds as one, on a subset of a dataset; write and return its summary.

    Every image is scored in its own geometry, pixels with an ignored label left out. Without ``data`` the dataset of the training
    and its "test" subset are meant; with it "all" of that dataset, unless ``subset`` says otherwise. Its classes are found by
    ``match_classes``, which ``mapping`` helps; ``groups`` are those of ``data``, as in ``load_groups``. Distances are in pixels,
    or in mm where ``spacing_mm`` (row, column) is given, and of volumes. A run of the "ukan" protocol has pooled figures, too.
    The results go to ``out``, or to ``RUN/evaluation``, with the names of ``data`` and ``subset`` appended where these are given.
    "notes" of the summary say what is not as it seems: images that were in the training, classes that the dataset lacks.

    Raises ``UserError`` when a class of the dataset or a file of an image is none of the model, or no case is left.
    """
    dataset = match_files(run.open_data(data), predictor.card)
    volumes = predictor.card.spatial_dims == 3
    if volumes and spacing_mm:
        raise UserError("spacing_mm is of pictures: volumes say the size of their voxels themselves.")
    out = out or _default_folder(run, data, subset)
    subset = subset or ("test" if data is None else "all")
    _check_folder(out, dataset.root, subset)
    cases = _cases(run, dataset, subset)
    card = predictor.card
    match = match_classes(dataset, card, mapping)
    seen = seen_in_training(cases, dataset, Path(run.config["data"]), run.label_rules, run.splits)
    group_of = load_groups(dataset, run.config.get("groups") if data is None else groups) or {}
    scores = _score(predictor, dataset, match, cases, spacing_mm, progress)
    rows = [{"id": row["id"], "group": group_of.get(row["id"], row["id"]), **row} for row in scores]
    summary: dict[str, Any] = {
        "folder": str(out),
        "model": card.model,
        "data": str(dataset.root),
        "subset": subset,
        "protocol": run.splits.protocol,
        "seed": run.splits.seed,
        "splits_from": run.splits.origin,
        "mode": predictor.mode,
        "tta": predictor.tta,
        "distance_unit": "mm" if spacing_mm or volumes else "pixel",
        "weights": weights_digest(run.folder),
        "seen_in_training": None if seen is None else len(seen),
        "mapping": dict(mapping or {}),
        "notes": [*match.notes, *_seen_note(seen, len(cases))],
        **summarise(rows),
    }
    if run.splits.protocol == "ukan" and isinstance(predictor, Predictor):  # which has no folds
        summary["ukan"] = _ukan_figures(predictor, dataset, match, cases, run)
    out.mkdir(parents=True, exist_ok=True)
    write_table(out / "cases.csv", rows)
    write_json(out / "summary.json", summary, indent=2)
    return summary


def _default_folder(run: Run, data: str | Path | None, subset: str | None) -> Path:
    """``RUN/evaluation`` is of the test images; other data and other subsets have their own names."""
    parts = ["evaluation", *([Path(data).resolve().name] if data else []), *([subset] if subset not in (None, "test") else [])]
    return run.folder / "-".join(parts)


def _check_folder(out: Path, data: Path, subset: str) -> None:
    """``UserError`` where scores of other data or images, or somebody's files of the same names, would be overwritten."""
    if out.exists() and not out.is_dir():
        raise UserError(f"{out} is no folder: choose another --out, nothing is overwritten.")
    there = [out / name for name in ("summary.json", "cases.csv") if (out / name).exists()]
    if not there:
        return
    try:
        summary = read_json(out / "summary.json")
        of = summary["data"]
    except (OSError, UserError, KeyError, TypeError):
        raise UserError(f"{there[0]} is there and not of an evaluation: choose another --out, nothing is overwritten.") from None
    if Path(of).resolve() != data.resolve():
        raise UserError(f"{out} holds the scores of {of}: choose another --out, nothing is overwritten.")
    if summary.get("subset", subset) != subset:
        raise UserError(f"{out} holds the scores of {summary['subset']} images: choose another --out, nothing is overwritten.")


def _cases(run: Run, dataset: Dataset, subset: str) -> tuple[Case, ...]:
    if subset not in SUBSETS:
        raise UserError(f"unknown subset {subset!r}: {suggestion(subset, SUBSETS)}")
    if subset == "all":
        return dataset.cases
    run.splits.matches(dataset)
    ids = getattr(run.splits, subset)
    if not ids:
        raise UserError(
            f"{run.folder} has no {subset} images in its split: say --subset val, whose scores are optimistic because the epoch "
            "was chosen on them, or give other images with --data."
        )
    return dataset.select(ids)


def read_truth(case: Case, dataset: Dataset, match: ClassMatch, card: ModelCard) -> Truth:
    """Image and masks of one case of ``match_files``, as the model knows them. Raises ``UserError`` as ``read_case``."""
    channels = channels_of(card, dataset)
    volumes, keep = card.spatial_dims == 3, not card.in_bytes
    image, masks = read_volume_case(case, dataset, channels) if volumes else read_case(case, dataset, channels, keep)
    return Truth(image, *split_ignored(match.arrange(masks), card.spatial_dims))


def _score(
    predictor: Segmenter,
    dataset: Dataset,
    match: ClassMatch,
    cases: Sequence[Case],
    spacing_mm: tuple[float, float] | None,
    progress: Progress,
) -> Iterator[dict[str, Any]]:
    scored = np.array(match.scored)
    for done, case in enumerate(cases, 1):
        found = read_truth(case, dataset, match, predictor.card)
        masks = predictor.masks(found.image) & found.counts
        volume = found.image.geometry if isinstance(found.image, Image) else None
        spacing = volume.spacing_mm if volume else spacing_mm
        scores = case_metrics(masks[scored], found.masks[scored], spacing)
        for label, figures in zip(compress(predictor.card.classes, scored), scores, strict=True):
            counts = figures["truth_pixels"], figures["predicted_pixels"]
            sizes = volume_metrics(*counts, volume.voxel_mm3) if volume else {}  # voxels of a sheared grid are no boxes
            yield {"id": case.id, "class": label, **figures, **sizes}
        progress(done, len(cases))


def _ukan_figures(predictor: Predictor, dataset: Dataset, match: ClassMatch, cases: Sequence[Case], run: Run) -> dict[str, float]:
    """IoU pooled over batches as large as those of its validation, and the mean of that figure over the last 50 epochs."""
    size = run.config.get("batch_size") or 8
    card, scored = predictor.card, np.array(match.scored)
    data = prepare(dataset, cases, card.size, channels_of(card, dataset), card.kept_intensities)
    truth, counts = split_ignored(np.stack([match.arrange(masks) for masks in data.masks.numpy()]))
    parts = [to_masks(predictor.probabilities(b), card.target, card.threshold).cpu().numpy() for b in data.images.split(size)]
    iou, dice = pooled_iou((np.concatenate(parts) & counts)[:, scored], truth[:, scored], batch_size=size)
    curve = [float(row["val_iou_pooled"]) for row in read_table(run.folder / "history.csv")]
    return {"iou_pooled": iou, "dice_pooled": dice, "iou_pooled_mean_of_last_50_epochs": float(np.mean(curve[-50:]))}


def _seen_note(seen: Sequence[str] | None, total: int) -> list[str]:
    if seen is None:
        return ["the data of the training are not where they were: whether these images were in it is not known."]
    if not seen:
        return []
    return [f"{len(seen)} of these {total} images were in the training, as {seen[0]!r}: the scores say little about new images."]
