"""Masks among what is to be predicted: a network takes them for images, and nobody sees it."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from allukan.data import bare
from allukan.errors import UserError

_FOLDERS = frozenset(  # and their plurals
    {"mask", "label", "labelstr", "labelsts", "labelsva", "annotation", "segmentation", "gt", "overlay"}
    | {"ground_truth", "groundtruth", "ground-truth", "ground truth"}
)
_ENDINGS = ("_mask", "_masks", "_seg", "_segmentation", "_label", "_labels", "_gt", "_annotation")


def check_annotated(files: Iterable[Path]) -> None:
    """Raises ``UserError`` where some files are masks by their place, or by their name, and others are not.

    The first are below a folder of masks, as ``masks`` and ``labelsTr`` beside other folders, of annotators or of an earlier
    prediction; the second stand as ``a_mask.png`` beside ``a.png``.
    """
    paths = list(files)
    _check_folders(paths)
    names = {(path.parent, bare(path).name.casefold()) for path in paths}
    for path in paths:
        name = bare(path).name.casefold()
        endings = [ending for ending in _ENDINGS if name.endswith(ending)]
        if any((path.parent, name.removesuffix(ending)) in names for ending in endings):
            raise UserError(f"{path} is the mask of an image beside it, and no image to predict: keep masks in another folder.")


def _check_folders(paths: list[Path]) -> None:
    """Folders above all files say nothing: who gives masks alone may want just them."""
    above = Path(*os.path.commonprefix([path.absolute().parent.parts for path in paths]))
    within = {path: _folder_of_masks(path.absolute().relative_to(above)) for path in paths}
    images = [path for path, folder in within.items() if folder is None]
    masks = [above / folder for folder in within.values() if folder is not None]
    if masks and images:
        raise UserError(f"{masks[0]} holds masks, which are no images to predict: give the images alone, as {images[0].parent}.")


def _folder_of_masks(path: Path) -> Path | None:
    """The uppermost above a file, if any."""
    folders = reversed(path.parents)
    return next((one for one in folders if {one.name.casefold(), one.name.casefold().removesuffix("s")} & _FOLDERS), None)
