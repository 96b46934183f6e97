"""Images that the page offers to try: copies, so that nothing else of the folder they come from can be reached."""

from __future__ import annotations

import logging
import shutil
from dataclasses import dataclass
from pathlib import Path
from zipfile import ZipFile

import numpy as np
from numpy.typing import NDArray

from allukan.app.pictures import Scene
from allukan.app.uploads import only_image, read_whole, received
from allukan.data.volumes.dicom_series import choose
from allukan.errors import UserError
from allukan.inference import InputImage, find_images
from allukan.models import ModelCard

MOST = 24  # that are offered
_log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Example:
    """An image by its name: ``files`` as a visitor would send them, and a ``picture`` of it, bytes ``(H, W, 3)``."""

    name: str
    files: tuple[Path, ...]
    picture: NDArray[np.uint8]


def open_examples(given: Path, card: ModelCard, folder: Path, limit: int) -> list[Example]:
    """The images of the folder ``given``, copied below ``folder``: at most ``MOST``, and what may not be sent is left out.

    What is left out is told in the log. Raises ``UserError`` as ``find_images``, and where nothing is left.
    """
    images, examples, faults = find_images([given], card), list[Example](), list[str]()
    for image in images:
        if len(examples) == MOST:
            _log.warning(f"{given} holds {len(images)} images: the first {MOST} that can be used are offered.")
            break
        place = folder / str(len(examples) + len(faults))
        try:
            examples.append(_example(image, card, place, limit))
        except UserError as error:
            shutil.rmtree(place)
            faults.append(f"{image.name}: {str(error).replace(f'{place}/', '')}")
    if not examples:
        raise UserError(f"{given} holds no example that the model takes: {faults[0]}")
    for fault in faults:
        _log.warning(f"left out of the examples: {fault}")
    return examples


def _example(image: InputImage, card: ModelCard, place: Path, limit: int) -> Example:
    place.mkdir(parents=True)
    if image.fault:
        raise UserError(image.fault)
    files = tuple(_copy(file, place) for file in image.files)
    unpacked = place / "unpacked"
    scene = Scene.of(read_whole(only_image(received(files, unpacked, limit), card), card))
    shutil.rmtree(unpacked, ignore_errors=True)
    return Example(str(image.name), files, scene.bare(len(scene.slices) // 2))


def _copy(file: Path, place: Path) -> Path:
    """Of a series of DICOM a zip of its slices alone."""
    target = place / (f"{file.name}.zip" if file.is_dir() else file.name)
    if target.exists():
        raise UserError(f"two files of one image are called {file.name}: rename one.")
    if not file.is_dir():
        return Path(shutil.copyfile(file, target))
    with ZipFile(target, "w") as packed:
        for path in choose(file):
            packed.write(path, path.name)
    return target
