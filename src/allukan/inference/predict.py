"""Files and folders through a model: the function behind ``allukan predict``."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from allukan.data import (
    IMAGE_SUFFIXES,
    VOLUME_SUFFIXES,
    bare,
    is_image,
    is_volume,
    not_read,
    read_volume,
    search,
    unread,
    write_image,
)
from allukan.data.volumes import Image, label_suffix, write_labels
from allukan.errors import UserError
from allukan.files import as_path, nfc, whole
from allukan.inference.inputs import stack_files
from allukan.inference.predictor import Prediction, Predictor
from allukan.models import ModelCard
from allukan.report import draw_contours

_log = logging.getLogger("allukan")


@dataclass(frozen=True)
class InputImage:
    """One image to predict.

    Attributes:
        name: path, without suffix, of its results.
        files: that make it up, in the order that the model expects.
        fault: why it cannot be predicted.
    """

    name: Path
    files: tuple[Path, ...]
    fault: str = ""


@dataclass
class Outcome:
    """What became of the inputs: predicted files, and what was wrong with the others (path and sentence)."""

    done: list[Path] = field(default_factory=list)
    failed: list[tuple[Path, str]] = field(default_factory=list)


def find_inputs(inputs: Sequence[str | Path], volumes: bool = False) -> dict[Path, Path]:
    """Every picture among files and folders (searched to any depth) → the path, without suffix, of its results.

    With ``volumes`` every volume instead, of which a folder with slices of DICOM is one. Raises ``UserError`` for an input that
    does not exist, for none at all, and for two that would have the same result.
    """
    found: dict[Path, Path] = {}
    taken: dict[str, Path] = {}
    for given in map(Path, inputs):
        if not (given.exists() or given.is_symlink()):
            raise UserError(f"{given} does not exist: give image files or folders of images.")
        for path in _within(given, volumes):
            result = Path(bare(path).name) if path == given else bare(path).relative_to(given)
            other = taken.setdefault(nfc(str(result)).casefold(), path)  # as Windows and macOS compare
            if other != path:
                raise UserError(f"{path} and {other} would both be written to {result}: predict them into two folders.")
            found[path] = result
    if not found:
        known = ", ".join(sorted(VOLUME_SUFFIXES if volumes else IMAGE_SUFFIXES))
        raise UserError(f"no images in {', '.join(map(str, inputs))}: known are {known}.")
    return found


def _within(given: Path, volumes: bool) -> list[Path]:
    """What is left out of a folder, because its format is not read, is named in the log."""
    known = VOLUME_SUFFIXES if volumes else IMAGE_SUFFIXES
    if volumes and given.is_dir() and is_volume(given):
        return [given]
    if not given.is_dir():
        if sentence := not_read(given, known):
            raise UserError(sentence)
        return [given]
    files = list(search(given))
    series = [folder for folder in sorted({path.parent for path in files}) if volumes and is_volume(folder)]
    files = [path for path in files if path.parent not in series]
    for sentence in unread(files, known):
        _log.warning(sentence)
    return sorted(series + [path for path in files if (is_volume if volumes else is_image)(path)])


def predict_files(
    predictor: Predictor, images: Iterable[InputImage], out: Path, *, save_probabilities: bool = False, save_overlays: bool = True
) -> Iterator[Outcome]:
    """Predict one image after the other; yields the growing outcome after each, so that a caller can show progress.

    Writes ``out/masks/NAME.png`` in the geometry of the input, with the values of the label maps of the training where it had
    such, else 0 and 255 for "binary"; and ``out/masks/CLASS/NAME.png`` with 0 and 255 for "multilabel"; with ``save_overlays``
    ``out/overlays/NAME.png``; with ``save_probabilities`` ``out/probabilities/NAME.npz`` (float16 ``(K', H, W)``, and the names
    of its ``classes``). Volumes have no overlays, and masks in their own kind of file and exact geometry, 1 instead of 255.
    Raises ``UserError`` when ``out`` is in use already; nothing is overwritten.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"{out} is not empty: choose another --out, nothing is overwritten.")
    outcome = Outcome()
    for one in images:
        path, name = one.files[0], one.name
        try:
            if one.fault:
                raise UserError(one.fault)
            image = _load(one.files, predictor.card)
            prediction = predictor(image)
        except UserError as error:
            outcome.failed.append((path, str(error)))
        else:
            _write_masks(out / "masks", prediction.masks, predictor.card, name, image)
            if save_overlays and not isinstance(image, Image):
                write_image(out / "overlays" / f"{name}.png", draw_contours(image, prediction.masks))
            if save_probabilities:
                _save_probabilities(out / "probabilities" / f"{name}.npz", prediction, predictor.card)
            outcome.done.append(path)
        yield outcome


def _load(files: Sequence[Path], card: ModelCard) -> NDArray[np.uint8] | Image:
    if card.spatial_dims == 3:
        return read_volume(files, [file.channels for file in card.image_files])
    return stack_files(files, card)


def _write_masks(folder: Path, masks: NDArray[np.bool_], card: ModelCard, name: Path, image: NDArray[np.uint8] | Image) -> None:
    if not isinstance(image, Image):
        for file, array in mask_files(masks, card, name):
            write_image(folder / as_path(file), array)
        return
    for file, array in mask_files(masks, card, name, label_suffix(image), 1):
        write_labels(folder / as_path(file), array, image)


def mask_files(
    masks: NDArray[np.bool_], card: ModelCard, name: Path, suffix: str = ".png", white: int = 255
) -> Iterable[tuple[str, NDArray[np.unsignedinteger]]]:
    """File names and contents in which masks ``(K, *S)`` are stored; see ``predict_files``. 16 bit for values above 255."""
    if card.target == "multilabel":
        return [(f"{label}/{name}{suffix}", mask * np.uint8(white)) for label, mask in zip(card.classes, masks, strict=True)]
    values = card.label_values or ((white,) if card.target == "binary" else tuple(range(1, len(masks) + 1)))
    labels = np.array(values, np.uint8 if max(values) < 256 else np.uint16).reshape(-1, *[1] * (masks.ndim - 1))
    return [(f"{name}{suffix}", (masks * labels).max(0))]


def _save_probabilities(path: Path, prediction: Prediction, card: ModelCard) -> None:
    names = ["background", *card.classes] if card.target == "multiclass" else card.classes
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole(path) as part, part.open("wb") as file:
        np.savez_compressed(file, probabilities=prediction.probabilities.astype(np.float16), classes=np.array(names))
