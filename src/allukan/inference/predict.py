"""Files and folders through a model: the function behind ``allukan predict``."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from allukan.data import (
    PICTURE_SUFFIXES,
    VOLUME_SUFFIXES,
    bare,
    is_picture,
    is_volume,
    not_read,
    read_volume,
    scaled_note,
    search,
    unread,
)
from allukan.errors import UserError
from allukan.files import nfc
from allukan.inference.components import Cleaning
from allukan.inference.inputs import stack_files
from allukan.inference.likeness import LikenessCheck
from allukan.inference.results import Results, check_format
from allukan.inference.segmenter import Progress, Segmenter, numbered

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
        known = ", ".join(sorted(VOLUME_SUFFIXES if volumes else PICTURE_SUFFIXES))
        raise UserError(f"no images in {', '.join(map(str, inputs))}: known are {known}.")
    return found


def _within(given: Path, volumes: bool) -> list[Path]:
    """What is left out of a folder, because its format is not read, is named in the log."""
    known = VOLUME_SUFFIXES if volumes else PICTURE_SUFFIXES
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
    return sorted(series + [path for path in files if (is_volume if volumes else is_picture)(path)])


def predict_files(
    predictor: Segmenter,
    images: Iterable[InputImage],
    out: Path,
    *,
    save_probabilities: bool = False,
    save_overlays: bool = True,
    mask_format: str | None = None,
    cleaning: Cleaning | None = None,
    likeness: LikenessCheck | None = None,
    progress: Progress = lambda done, total: None,
) -> Iterator[Outcome]:
    """Predict one image after the other; yields the growing outcome after each, so that a caller can show progress.

    Writes ``out/masks/NAME.png`` in the geometry of the input, with the values of the label maps of the training where it had
    such, else 0 and 255 for "binary"; and ``out/masks/CLASS/NAME.png`` with 0 and 255 for "multilabel"; with ``save_overlays``
    ``out/overlays/NAME.png``; with ``save_probabilities`` ``out/probabilities/NAME.npz`` (float16 ``(K', H, W)``, and the names
    of its ``classes``). Volumes have no overlays, and masks in their own kind of file and exact geometry, 1 instead of 255, or in
    ``mask_format`` "dicom-seg", which pictures of a DICOM file can have as well; how large every class is goes to
    ``out/volumes.csv`` at the end. ``cleaning`` changes masks and what is drawn and measured of them, not probabilities. With
    ``likeness``, ``out/likeness.csv`` has the score of every image, and a warning counts those that are unlike the training.
    ``progress`` is told of the windows of a volume.
    Raises ``UserError`` when ``out`` is in use already; nothing is overwritten.
    """
    check_format(mask_format, predictor.card)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"{out} is not empty: choose another --out, nothing is overwritten.")
    results = Results(out, predictor.card, save_probabilities, save_overlays, mask_format, cleaning or Cleaning())
    outcome, listed = Outcome(), list(images)
    of_bytes = predictor.card.spatial_dims == 2 and predictor.card.in_bytes
    if of_bytes and (note := scaled_note([one.files for one in listed if not one.fault])):
        _log.warning(note)
    try:
        for one in listed:
            try:
                if one.fault:
                    raise UserError(one.fault)
                _predict(predictor, one, results, progress, likeness)
            except UserError as error:
                outcome.failed.append((one.files[0], str(error)))
            else:
                outcome.done.append(one.files[0])
            yield outcome
    finally:
        results.close()
        _warn_of_unlike(results)


def _warn_of_unlike(results: Results) -> None:
    if unlike := [row["id"] for row in results.likeness if row["unlike"]]:
        shown = ", ".join(unlike[:3]) + (" …" if len(unlike) > 3 else "")
        _log.warning(
            f"{len(unlike)} of {len(results.likeness)} images are unlike those of the training: look at {shown} (likeness.csv)."
        )


def _predict(predictor: Segmenter, one: InputImage, results: Results, progress: Progress, likeness: LikenessCheck | None) -> None:
    card = predictor.card
    if card.spatial_dims == 2:
        like, picture = results.like(one.files), stack_files(one.files, card)
        found = predictor(picture)
        if likeness:
            results.likeness.append(likeness.row(one.name.as_posix(), picture))
        results.write_picture(one.name, picture, numbered(found.masks, card), found.probabilities, like)
        return
    volume = read_volume(one.files, [file.channels for file in card.image_files])
    results.check(volume)
    if likeness:
        results.likeness.append(likeness.row(one.name.as_posix(), volume))
    numbers, probabilities = predictor.number(volume, np.float16 if results.probabilities else None, progress)
    results.write_volume(one.name, volume, numbers, probabilities)
