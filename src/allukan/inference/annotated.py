"""Masks among what is to be predicted: a network takes them for images, and nobody sees it."""

from __future__ import annotations

import logging
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from allukan.data import MASK_FOLDERS, bare, has_mask_word, mask_owner, owned
from allukan.errors import UserError
from allukan.inference.inputs import slot
from allukan.models import ImageFile

_FOLDERS = frozenset({*MASK_FOLDERS, "manual2", "2nd_manual", "labelstr", "labelsts", "labelsva", "overlays"})
_log = logging.getLogger("allukan")


def without_masks(files: Mapping[Path, Path], expected: Sequence[ImageFile]) -> dict[Path, Path]:
    """``files`` without the masks beside their images, which the log names.

    Those are ``a_mask.png`` beside ``a.png``, and in folders of one image each a folder of its masks, ``P1/ct.nii`` and
    ``P1/segmentations``. ``expected`` are the files of an image: beside ``P1_t1`` and ``P1_t2`` a mask is called ``P1_seg``.

    Raises ``UserError`` where some are below another folder of masks, as ``masks`` and ``labelsTr``, of annotators or of an
    earlier prediction, and others are not, and where all there is are the masks and overlays of one.
    """
    masks = _in_folders(list(files))
    names = defaultdict[Path, set[str]](set)
    for path in files:
        names[path.parent].add(_name(path))
        if at := slot(path.absolute(), expected):
            names[path.parent].add(at[2].casefold())
    masks |= {path for path in files if owned(_name(path), names[path.parent])}
    if masks:
        _log.warning(f"{len(masks)} masks beside their images are left out, as {min(masks)}.")
    return {path: result for path, result in files.items() if path not in masks}


def _name(path: Path) -> str:
    return bare(path).name.casefold()


def _in_folders(paths: list[Path]) -> set[Path]:
    """Folders above all files say nothing: who gives masks alone may want just them."""
    folders = paths[0].absolute().parents if paths else ()
    above = next((folder for folder in folders if all(path.absolute().is_relative_to(folder) for path in paths)), None)
    if above is None:
        return set()
    within = _folders_of_masks({path: path.absolute().relative_to(above) for path in paths})
    images = [path for path, folder in within.items() if folder is None]
    masks = {path: above / folder for path, folder in within.items() if folder is not None}
    cases = {folder.parent for folder in masks.values()}
    alone = Counter(folder for path in images for folder in path.absolute().parents if folder in cases)
    if not images and {folder.name.casefold() for folder in masks.values()} > {"overlays"}:
        raise UserError(f"{above} holds masks and overlays of a prediction, which are no images to predict: give the images.")
    if not (masks and images):
        return set()
    if len(cases) > 1 and all(alone[folder] == 1 for folder in cases):
        return set(masks)
    first = next(iter(masks.values()))
    place = images[0] if images[0].parent.absolute() in cases else images[0].parent
    raise UserError(f"{first} holds masks, which are no images to predict: give the images alone, as {place}.")


def _folders_of_masks(paths: Mapping[Path, Path]) -> dict[Path, Path | None]:
    """Of every file by its relative path; a folder that has but a word of masks in its name counts for masks of other images."""
    named = {path: _uppermost(at, lambda folder: folder in _FOLDERS) for path, at in paths.items()}
    worded = {path: _uppermost(at, has_mask_word) for path, at in paths.items()}
    images = {_name(path) for path in paths if worded[path] is None}
    return {path: named[path] or (worded[path] if mask_owner(_name(path), images).image in images else None) for path in paths}


def _uppermost(path: Path, of_masks: Callable[[str], bool]) -> Path | None:
    return next((folder for folder in reversed(path.parents) if of_masks(folder.name.casefold())), None)
