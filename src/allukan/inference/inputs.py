"""What goes into a trained model: the files of an image, put together as those of the training were."""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from allukan.data import (
    Dataset,
    as_input,
    as_trained,
    bare,
    check_volume,
    match_pattern,
    names_of_files,
    read_image,
    read_values,
    read_volume,
    resampled,
    resize_image,
    standardised,
)
from allukan.data.volumes import CANONICAL, Image
from allukan.errors import UserError
from allukan.models import ImageFile, ModelCard

NUMBERED = re.compile(r"(.+)_(\d{4})")  # nnU-Net's number of the channel


def described(files: Sequence[ImageFile]) -> str:
    """What a model expects of an image, in words.

    >>> described([ImageFile("*_0000", 1, "T1"), ImageFile("*_0001", 1, "T2")])
    '2 files an image, *_0000 (T1) and *_0001 (T2)'
    >>> described([ImageFile("*", 3)])
    'one file an image, in RGB'
    """
    if len(files) == 1:
        return f"one file an image, {_kind(files[0])}"
    shown = [_shown(file, number) for number, file in enumerate(files, 1)]
    return f"{len(files)} files an image, {', '.join(shown[:-1])} and {shown[-1]}"


def _kind(file: ImageFile) -> str:
    return {1: "grey", 3: "in RGB"}.get(file.channels, f"of {file.channels} channels")


def _shown(file: ImageFile, number: int) -> str:
    about = [file.name] * bool(file.name) + [_kind(file)] * (file.channels > 1)
    return (file.pattern or f"number {number}") + (f" ({', '.join(about)})" if about else "")


def slot(path: Path, files: Sequence[ImageFile]) -> tuple[int, str, str] | None:
    """Which of the files of an image this is, by its name, with the folders and the name of the image; None for none of them.

    >>> slot(Path("deep/P1_0001.png"), [ImageFile("*_0000", 1), ImageFile("*_0001", 1)])
    (1, 'deep/', 'P1')
    """
    text = bare(path).as_posix()
    for number, file in sorted(enumerate(files), key=lambda item: -len(item[1].pattern)):  # "*_t2" before "*"
        found = match_pattern(text, file.pattern)
        if found:
            return number, *found
    return None


def read_input(image: str | Path | Sequence[str | Path] | NDArray[Any], card: ModelCard) -> NDArray[Any]:
    """A file, the files of an image in the order of the training, or an array ``(H, W[, C])`` → ``(H, W, C)`` for the model.

    Of bytes, or in the precision of the file where the model was trained on such.

    Raises ``UserError`` for anything that is not what the model was trained on, and for files that cannot be read.
    """
    if isinstance(image, str | Path):
        return read_files([Path(image)], card)
    if isinstance(image, list | tuple) and image and all(isinstance(path, str | Path) for path in image):
        return read_files([Path(path) for path in image], card)
    if not isinstance(image, np.ndarray):
        raise UserError(f"a path, a list of paths or an array is expected, got {type(image).__name__}.")
    return _array(image, card)


def network_input(pictures: Iterable[NDArray[Any]], card: ModelCard, size: tuple[int, ...] | None = None) -> Tensor:
    """Pictures ``(H, W, C)`` → ``(B, C, *size)``: bytes, or float32 that is normalised already; as they are without ``size``."""
    made = (picture if card.in_bytes else standardised(picture, card.intensities) for picture in pictures)
    scaled = [picture if size is None else resize_image(picture, size) for picture in made]
    return torch.from_numpy(np.stack(scaled)).permute(0, 3, 1, 2).contiguous()


def read_volume_input(image: Any, card: ModelCard) -> Image:
    """A file, the files of a volume in the order of the training, or an ``Image``; ``UserError`` for anything else."""
    if isinstance(image, Image):
        if len(image.geometry.shape) != 3 or len(image.array) != card.in_channels:
            raise UserError(
                f"an image of shape {image.array.shape} is given, and {card.in_channels} channels of a volume expected."
            )
        check_volume(image, "the image")
        return image
    paths = [image] if isinstance(image, str | Path) else image
    if not isinstance(paths, list | tuple) or not paths or not all(isinstance(path, str | Path) for path in paths):
        raise UserError(f"a path, a list of paths or an Image of allukan.data.volumes is expected, got {type(image).__name__}.")
    files = [Path(path) for path in paths]
    _check_files(files, card)
    return read_volume(files, [file.channels for file in card.image_files])


class VolumeInput:
    """A volume as networks take it: made once for all that take it alike, as the folds of a training often do.

    Attributes:
        geometry: of the volume, turned as ``as_input`` does.
    """

    def __init__(self, image: Image) -> None:
        self._image, self._made = image, dict[Hashable, Tensor]()
        self.geometry = image.geometry.moved(image.geometry.axes_to(CANONICAL[3]))

    def of(self, card: ModelCard) -> Tensor:
        """Float32 ``(C, D, H, W)`` with the intensities and voxels that the model was trained at."""
        how = (card.intensities, card.spacing_mm)
        if how not in self._made:
            scaled = resampled(as_input(self._image, card.intensities), card.spacing_mm)
            self._made[how] = torch.from_numpy(scaled.array)
        return self._made[how]


def _array(array: NDArray[Any], card: ModelCard) -> NDArray[Any]:
    if card.in_bytes and array.dtype != np.uint8:
        raise UserError(f"images are expected as bytes 0 … 255 (uint8), got {array.dtype}.")
    if array.dtype.kind not in "uif" or not np.isfinite(array).all():
        raise UserError(f"images are expected as finite numbers, got {array.dtype}.")
    if array.ndim not in (2, 3) or 0 in array.shape:
        raise UserError(f"an image is expected as (height, width) or (height, width, channels), got shape {array.shape}.")
    array, files = np.atleast_3d(array), card.image_files
    if len(files) == 1:
        return as_trained(array, card.in_channels, f"an array of shape {array.shape}")
    if array.shape[2] != card.in_channels:
        raise UserError(
            f"an array of shape {array.shape} has {array.shape[2]} channels (height, width, channels): the model expects "
            f"{card.in_channels}, of {described(files)}."
        )
    return array


def read_files(paths: Sequence[Path], card: ModelCard) -> NDArray[Any]:
    """The files of one image, in the order of the training, as ``(H, W, C)``; ``UserError`` where they are not those."""
    _check_files(paths, card)
    return stack_files(paths, card)


def _check_files(paths: Sequence[Path], card: ModelCard) -> None:
    files = card.image_files
    if len(paths) != len(files) and (card.files or len(paths) == 1):
        shown = ", ".join(map(str, paths))
        raise UserError(f"{shown}: {len(paths)} given, but the model expects {described(files)}, together as a list.")
    check_names(paths, files)


def stack_files(paths: Sequence[Path], card: ModelCard) -> NDArray[Any]:
    """As ``read_files``, for files whose order is known: their names are not looked at."""
    if card.files:
        return (read_image if card.in_bytes else read_values)(paths, [file.channels for file in card.files])
    if len(paths) > 1:  # all that version 0.1 knew of its files is how many channels they bring
        return _array(read_image(paths), card)
    _check_untold(paths[0], card)
    return read_image(paths, [card.in_channels])


def check_names(paths: Sequence[Path], files: Sequence[ImageFile]) -> None:
    """Raises ``UserError`` where the names of files say another order, or another image, than their place in a list."""
    slots = [slot(path, files) for path in paths]
    for number, (path, found) in enumerate(zip(paths, slots, strict=True)):
        other = NUMBERED.fullmatch(bare(path).name) if found is None and NUMBERED.fullmatch(files[0].pattern) else None
        if other or (found and number < len(files) and found[0] != number):
            raise UserError(f"{path} is not file {number + 1} of what the model expects: {described(files)}, in this order.")
    names = {found[2] for found in slots if found}
    if len(paths) == len(files) and len(names) > 1:
        raise UserError(f"{', '.join(map(str, paths))} are of different images ({', '.join(sorted(names))}): give one at a time.")


def _check_untold(path: Path, card: ModelCard) -> None:
    """A model of version 0.1 with 3 channels: of one file in RGB, or of three? Only its user knows."""
    found = NUMBERED.fullmatch(path.stem) if card.in_channels == 3 else None
    beside = [path.with_name(f"{found[1]}_{n:04d}{path.suffix}") for n in range(3)] if found else []
    if beside and all(file.is_file() for file in beside) and read_image([path]).shape[2] == 1:
        raise UserError(
            f"{path} is one of three grey files, and the model of version 0.1 does not say whether it was trained on such: "
            "train it again, or use Predictor and give them together as a list."
        )


def match_files(dataset: Dataset, card: ModelCard) -> Dataset:
    """The dataset with the files of every case in the order that the model expects, by their names where both sides have names.

    Raises ``UserError`` where the files of an image are not those that the model expects, and for volumes where it expects
    pictures or the other way round.
    """
    if dataset.spatial_dims != card.spatial_dims:
        kinds = {2: "pictures", 3: "volumes"}
        raise UserError(f"{dataset.root} holds {kinds[dataset.spatial_dims]}, but the model expects {kinds[card.spatial_dims]}.")
    if not card.files:
        return dataset
    order = file_order(dataset.root, dataset.patterns, dataset.channel_names, card.files)
    cases = tuple(replace(case, images=tuple(case.images[n] for n in order)) for case in dataset.cases)
    return replace(dataset, cases=cases)


def channels_of(card: ModelCard, dataset: Dataset) -> tuple[int, ...]:
    """How many channels every file of ``match_files`` has to bring; empty where the model does not know: their sum counts."""
    told = card.files or len(dataset.patterns) == 1
    return tuple(file.channels for file in card.image_files) if told else ()


def file_order(where: Path, patterns: Sequence[str], names: Sequence[str], files: Sequence[ImageFile]) -> list[int]:
    """Places of the files that a model expects among those of an image: by their names, else their patterns, else as they come.

    ``patterns`` and ``names`` (of files or channels) are those of the images in ``where``. Raises ``UserError`` where their
    number differs, and where names or patterns contradict those of the model.
    """
    if len(patterns) != len(files):
        given = "one file" if len(patterns) == 1 else f"{len(patterns)} files"
        raise UserError(f"{where} has {given} an image, but the model expects {described(files)}.")
    theirs = [name.strip().casefold() for name in names_of_files(names, [file.channels for file in files])]
    ours = [file.name.strip().casefold() for file in files]
    named = bool(theirs) and all(ours)
    if not named:
        theirs, ours = list(patterns), [file.pattern for file in files]
    if set(theirs) == set(ours) and len(set(ours)) == len(ours):
        return [theirs.index(name) for name in ours]
    if theirs != ours and _disagree(theirs, ours, named):
        raise UserError(
            f"{where} calls the files of an image {', '.join(names if named else patterns)}, but the model expects "
            f"{described(files)}: name them alike, or give no names to match them by their order."
        )
    return list(range(len(files)))


def _disagree(theirs: Sequence[str], ours: Sequence[str], named: bool) -> bool:
    """Whether names that differ contradict each other; of a single file only the order of its channels can ("R, G, B")."""
    if named and len(ours) == 1:
        return sorted(theirs[0].split(", ")) == sorted(ours[0].split(", "))
    return named or bool(set(theirs) & set(ours) - {""})
