"""From an upload to what the page shows and hands out: every model's masks as ``allukan predict`` writes them, read back."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import ZIP_DEFLATED, ZipFile

import numpy as np
from numpy.typing import NDArray

from allukan.app.pictures import Masks, Scene
from allukan.app.uploads import only_image, read_whole, received
from allukan.data.volumes import read_labels
from allukan.errors import UserError
from allukan.files import as_path, read_table
from allukan.inference import InputImage, LikenessCheck, Outcome, Segmenter, predict_files
from allukan.models import ModelCard
from allukan.report.palette import CONTOURS, pick

Progress = Callable[[float, str], None]


@dataclass(frozen=True, eq=False)
class Finding:
    """What one model found, in the arrangement of the scene; ``unlike`` says that the image is unlike those of its training.

    Attributes:
        card: of the model.
        out: the folder that ``predict_files`` wrote.
        masks: ``(K, D, H, W)``.
        probabilities: float16 ``(K, D, H, W)`` where every class has a threshold ("binary", "multilabel"), else None.
    """

    card: ModelCard
    out: Path
    masks: Masks
    probabilities: NDArray[np.float16] | None
    unlike: bool = False

    def at_threshold(self, label: str, threshold: float) -> tuple[NDArray[np.floating], Masks]:
        """Probability and mask ``(D, H, W)`` of a class; at the threshold of the model the mask that was written."""
        assert self.probabilities is not None
        place = self.card.classes.index(label)
        probability = self.probabilities[place]
        own = threshold == self.card.threshold  # float16 may fall on the other side of it
        return probability, self.masks[place] if own else probability > threshold


@dataclass(frozen=True, eq=False)
class Visit:
    """An image and what every model found in it, by the name of the model; ``voxel_mm3`` is None of pictures."""

    image: InputImage
    folder: Path
    scene: Scene
    voxel_mm3: float | None
    findings: Mapping[str, Finding]

    def size(self, mask: Masks) -> str:
        """Of a mask, with its unit.

        Pictures do not say how large a pixel is.
        """
        count = int(np.count_nonzero(mask))
        if self.voxel_mm3 is None:
            return f"{count} pixels ({count / mask.size:.2%} of the image)"
        return f"{count * self.voxel_mm3 / 1000:.3f} ml"

    def table(self) -> list[dict[str, Any]]:
        """A row a model, where there are several, and class; of volumes as ``volumes.csv`` of ``allukan predict`` has them."""
        return [
            ({"model": name} if len(self.findings) > 1 else {}) | row
            for name, found in self.findings.items()
            for row in (_areas(found) if self.voxel_mm3 is None else _volumes(found))
        ]

    def warning(self) -> str:
        """Where the image is unlike those of the training of a model, by its name where there are several."""
        names = [name for name, found in self.findings.items() if found.unlike]
        of = f" of {', '.join(names)}" if len(self.findings) > 1 else ""
        return f"This image is unlike those of the training{of}: do not trust the outline without looking." if names else ""

    def colours(self) -> list[str]:
        """Of the contours of what the rows of the table are about."""
        return [pick(CONTOURS, k) for found in self.findings.values() for k in range(len(found.card.classes))]

    def download(self) -> Path:
        """The mask; where there are several, of models or of overlapping classes, a zip of them."""
        files = [(name, path) for name, found in self.findings.items() for path in _mask_files(found.out, found.card)]
        if len(files) == 1:
            return files[0][1]
        packed = self.folder / f"{self.image.name.name}-masks.zip"
        with ZipFile(packed, "w", ZIP_DEFLATED) as archive:
            for name, path in files:
                place = path.relative_to(self.findings[name].out / "masks")
                archive.write(path, place if len(self.findings) == 1 else Path(name, place))
        return packed


def segment(
    models: Mapping[str, Segmenter],
    files: Sequence[Path],
    folder: Path,
    limit: int,
    progress: Progress,
    checks: Mapping[str, LikenessCheck] | None = None,
) -> Visit:
    """Apply ``models`` to the one image in ``files``; everything is written below ``folder``, which is there and empty.

    ``checks`` by name of the model tell whether the image is unlike those of its training.

    Raises ``UserError`` for all that ``received``, ``only_image`` and ``predict_files`` refuse. Names of files in the sentences
    are those of the visitor.
    """
    try:
        return _segment(models, [Path(file) for file in files], folder, limit, progress, checks or {})
    except UserError as error:
        raise UserError(_without([folder, folder / "upload", *(Path(file).parent for file in files)], str(error))) from None


def _segment(
    models: Mapping[str, Segmenter],
    files: Sequence[Path],
    folder: Path,
    limit: int,
    progress: Progress,
    checks: Mapping[str, LikenessCheck],
) -> Visit:
    given = received(files, folder / "upload", limit)
    if not models:
        raise UserError("no model was chosen: choose one.")
    first = next(iter(models.values())).card
    image = only_image(given, first)
    read = read_whole(image, first)
    scene = Scene.of(read)
    findings = {}
    for number, (name, segmenter) in enumerate(models.items()):

        def show(part: float, name: str = name, before: int = number) -> None:
            progress((before + part) / len(models), name)

        out = folder / "results" / str(number)
        findings[name] = _found(segmenter, only_image(given, segmenter.card), out, scene, show, checks.get(name))
    return Visit(image, folder, scene, None if isinstance(read, np.ndarray) else read.geometry.voxel_mm3, findings)


def _found(
    segmenter: Segmenter,
    image: InputImage,
    out: Path,
    scene: Scene,
    progress: Callable[[float], None],
    check: LikenessCheck | None,
) -> Finding:
    card, outcome = segmenter.card, Outcome()
    keep = card.target != "multiclass"
    steps = predict_files(
        segmenter,
        [image],
        out,
        save_probabilities=keep,
        save_overlays=False,
        likeness=check,
        progress=lambda done, total: progress(done / total),
    )
    for outcome in steps:  # noqa: B007
        pass
    for _, sentence in outcome.failed:
        raise UserError(sentence)
    probabilities = None
    if keep:
        with np.load(out / "probabilities" / f"{image.name}.npz") as held:
            probabilities = scene.arranged(held["probabilities"])
    masks = np.concatenate([_masks_in(path, card) for path in _mask_files(out, card)])
    unlike = check is not None and read_table(out / "likeness.csv")[0]["unlike"] == "True"
    return Finding(card, out, scene.arranged(masks), probabilities, unlike)


def _mask_files(out: Path, card: ModelCard) -> list[Path]:
    """What was written of one image, in the order of the classes."""
    folders = [out / "masks" / as_path(label) for label in card.classes] if card.target == "multilabel" else [out / "masks"]
    return [next(path for path in sorted(folder.rglob("*")) if path.is_file()) for folder in folders]


def _masks_in(path: Path, card: ModelCard) -> Masks:
    """``(K, *S)`` of a file that was written."""
    labels = read_labels(path).array
    if card.target != "multiclass":
        return labels > 0
    return np.concatenate([labels == value for value in card.label_values or range(1, len(card.classes) + 1)])


def _areas(found: Finding) -> list[dict[str, Any]]:
    pixels = [int(np.count_nonzero(mask)) for mask in found.masks]
    rows = zip(found.card.classes, pixels, found.masks, strict=True)
    return [{"class": label, "pixels": count, "of the image": f"{count / mask.size:.2%}"} for label, count, mask in rows]


def _volumes(found: Finding) -> list[dict[str, Any]]:
    return [
        {"class": row["class"], "ml": f"{float(row['ml']):.3f}", "mm³": f"{float(row['mm3']):.1f}", "voxels": row["voxels"]}
        for row in read_table(found.out / "volumes.csv")
    ]


def _without(folders: Sequence[Path], sentence: str) -> str:
    """The sentence without what only this machine knows of the paths in it, the longest first."""
    for folder in sorted(map(str, folders), key=len, reverse=True):
        sentence = sentence.replace(f"{folder}/", "").replace(folder, "the upload")
    return sentence
