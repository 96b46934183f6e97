"""What ``allukan predict`` writes of an image."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from allukan.data import as_bytes, write_image
from allukan.data.volumes import Image, check_segmentation, label_suffix, read_image, write_labels, write_segmentation
from allukan.errors import UserError, suggestion
from allukan.files import as_path, whole, write_table
from allukan.inference.components import Cleaning
from allukan.inference.segmenter import numbered, unnumbered
from allukan.models import ModelCard
from allukan.report import draw_contours

FORMATS = ("dicom-seg",)
Numbers = NDArray[np.unsignedinteger]


def check_format(name: str | None, card: ModelCard) -> None:
    """Raises ``UserError`` for a format of masks that is not known, or that needs a package."""
    if name is None:
        return
    if name not in FORMATS:
        raise UserError(f"unknown format {name!r}: {suggestion(name, FORMATS)}")
    check_segmentation()


def mask_files(
    masks: NDArray[np.bool_], card: ModelCard, name: Path, suffix: str = ".png", white: int = 255
) -> list[tuple[str, Numbers]]:
    """File names and contents in which masks ``(K, *S)`` are stored; see ``predict_files``. 16 bit for values above 255."""
    return [(file, array) for file, array, _ in label_files(numbered(masks, card), card, name, suffix, white)]


def label_files(
    numbers: Numbers, card: ModelCard, name: Path, suffix: str, white: int
) -> Iterator[tuple[str, Numbers, dict[int, str]]]:
    """The same of what ``numbered`` gives, and the names of the values in each file."""
    if card.target == "multilabel":
        for label, mask in zip(card.classes, numbers, strict=True):
            yield f"{label}/{name}{suffix}", mask.astype(np.uint8) * np.uint8(white), {white: label}
        return
    values = card.label_values or ((white,) if card.target == "binary" else tuple(range(1, len(card.classes) + 1)))
    table = np.array([0, *values], np.uint8 if max(values) < 256 else np.uint16)
    yield f"{name}{suffix}", table[numbers[0]], dict(zip(values, card.classes, strict=True))


def _sizes(numbers: Numbers, card: ModelCard, name: Path, image: Image) -> Iterator[dict[str, Any]]:
    """A row a class: how large it is."""
    for place, label in enumerate(card.classes):
        mask = numbers[place] if card.target == "multilabel" else numbers[0] == place + 1
        voxels = int(np.count_nonzero(mask))
        mm3 = voxels * image.geometry.voxel_mm3
        yield {"id": name.as_posix(), "class": label, "voxels": voxels, "mm3": mm3, "ml": mm3 / 1000}


@dataclass
class Results:
    """The folder that results go to, and which of them are wanted; see ``predict_files``."""

    out: Path
    card: ModelCard
    probabilities: bool
    overlays: bool
    mask_format: str | None
    cleaning: Cleaning
    sizes: list[dict[str, Any]] = field(default_factory=list)
    likeness: list[dict[str, Any]] = field(default_factory=list)

    def check(self, image: Image) -> None:
        """Raises ``UserError`` for an image whose masks cannot be written as wanted."""
        if self.mask_format:
            check_segmentation(image)

    def like(self, files: Sequence[Path]) -> Image | None:
        """The image that masks of a picture are to lie on, where they are to have its place; raises as ``check``."""
        if not self.mask_format:
            return None
        image = read_image(files[0])
        self.check(image)
        return image

    def write_picture(
        self, name: Path, picture: NDArray[Any], numbers: Numbers, probabilities: NDArray[Any], like: Image | None = None
    ) -> None:
        """Masks as PNG, or as DICOM SEG of the file ``like``; contours over the picture, probabilities."""
        self.cleaning(numbers, self.card)
        suffix, white = (".png", 255) if like is None else (".dcm", 1)
        for file, array, names in label_files(numbers, self.card, name, suffix, white):
            path = self.out / "masks" / as_path(file)
            if like is None:
                write_image(path, array)
            else:
                write_segmentation(path, array.reshape(like.geometry.shape), like, names)
        if self.overlays:
            drawn = draw_contours(as_bytes(picture), unnumbered(numbers, self.card))
            write_image(self.out / "overlays" / f"{name}.png", drawn)
        if self.probabilities:
            self._save(name, probabilities)

    def write_volume(self, name: Path, volume: Image, numbers: Numbers, probabilities: NDArray[Any] | None) -> None:
        """Masks in the kind of file of the image or as DICOM SEG, and probabilities."""
        self.cleaning(numbers, self.card, volume.geometry.voxel_mm3)
        suffix = ".dcm" if self.mask_format else label_suffix(volume)
        for file, array, names in label_files(numbers, self.card, name, suffix, 1):
            path = self.out / "masks" / as_path(file)
            if self.mask_format:
                write_segmentation(path, array, volume, names)
            else:
                write_labels(path, array, volume)
        if probabilities is not None:
            self._save(name, probabilities)
        self.sizes += _sizes(numbers, self.card, name, volume)

    def close(self) -> None:
        """Write the sizes of all volumes so far, and how like those of the training all pictures are."""
        for name, rows in (("volumes.csv", self.sizes), ("likeness.csv", self.likeness)):
            if rows:
                write_table(self.out / name, rows)

    def _save(self, name: Path, probabilities: NDArray[Any]) -> None:
        """In float16, with the names of the classes."""
        names = ["background", *self.card.classes] if self.card.target == "multiclass" else self.card.classes
        path = self.out / "probabilities" / f"{name}.npz"
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole(path) as part, part.open("wb") as file:
            np.savez_compressed(file, probabilities=probabilities.astype(np.float16, copy=False), classes=np.array(names))
