"""Whether the likeness score tells other images from those of the training.

python -m benchmarks.likeness RUN OTHER_IMAGES… --out benchmarks/results/likeness.json
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score
from typer import Argument, Option

from allukan.errors import UserError
from allukan.inference import LikenessCheck, Predictor, open_run
from allukan.inference.inputs import match_files, read_input
from benchmarks.program import Program
from benchmarks.report import Result, Row

Pixels = NDArray[np.uint8]


def likeness(
    run: Annotated[str, Argument(help="Run folder, whose model keeps its likeness.")],
    others: Annotated[list[str], Argument(help="Folders of other images.")],
    images: Annotated[int, Option(help="Of each set at most, evenly drawn.")] = 100,
) -> Result:
    """Test images of a run against other images, and what is made of them: AUROC of the score, share above its threshold."""
    opened = open_run(run)
    predictor = Predictor(opened.folder / "model", "cpu")
    check = LikenessCheck.of(predictor, opened.folder / "model")
    if check is None:
        raise UserError(f"{run}/model keeps no likeness: say allukan inspect {run}/model --atlas first.")
    dataset = match_files(opened.open_data(), predictor.card)
    files = [case.images for case in dataset.select(opened.splits.test)]
    test = [read_input(list(paths), predictor.card) for paths in _drawn(files, images)]
    usual = np.array([check(image) for image in test])
    rows: list[Row] = [_row("test images", usual, check.threshold, None)]
    for name, found in _made(test):
        rows.append(_row(name, np.array([check(image) for image in found]), check.threshold, usual))
    for folder in others:
        found = [read_input(path, predictor.card) for path in _drawn(sorted(Path(folder).iterdir()), images)]
        name = Path(folder).parent.name if Path(folder).name == "images" else Path(folder).name
        for kind, part in ((name, found), (f"{name}, grey", [_grey(image) for image in found])):
            rows.append(_row(kind, np.array([check(image) for image in part]), check.threshold, usual))
    calibrated = {"calibrated_on": len(check.likeness.distances), "threshold": round(check.threshold, 3)}
    return Result(rows, about={"model": predictor.card.model, **calibrated})


def _made(test: list[Pixels]) -> Iterator[tuple[str, list[Pixels]]]:
    """What is made of the test images."""
    random = np.random.default_rng(0)
    yield "inverted", [255 - image for image in test]
    yield "upside down", [np.ascontiguousarray(image[::-1]) for image in test]
    yield "pixels shuffled", [random.permutation(image.reshape(-1, image.shape[-1])).reshape(image.shape) for image in test]
    yield "uniform noise", [random.integers(0, 256, image.shape, dtype=np.uint8) for image in test]


def _grey(image: Pixels) -> Pixels:
    return np.repeat(image.mean(-1, keepdims=True), image.shape[-1], axis=-1).round().astype(np.uint8)


def _drawn(items: list[Any], count: int) -> list[Any]:
    return [items[i] for i in np.unique(np.linspace(0, len(items) - 1, min(count, len(items))).round().astype(int))]


def _row(name: str, scores: NDArray[np.float64], threshold: float, usual: NDArray[np.float64] | None) -> Row:
    auroc = None
    if usual is not None:
        auroc = round(float(roc_auc_score(np.r_[np.zeros(len(usual)), np.ones(len(scores))], np.r_[usual, scores])), 4)
    figures = {"warned_share": float((scores > threshold).mean()), "median_score": float(np.median(scores))}
    return {"images": name, "count": len(scores), "auroc": auroc} | {key: round(value, 4) for key, value in figures.items()}


program = Program("likeness", likeness)


if __name__ == "__main__":
    program()
