"""Masks of the annotators among what is to be predicted: a network takes them for images, and nobody sees it."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from allukan.data import bare
from allukan.errors import UserError

_IMAGES = ("images", "image", "imgs", "img", "imagestr", "imagests", "imagesva")
_MASKS = frozenset(
    {"masks", "mask", "labels", "label", "labelstr", "labelsts", "labelsva", "annotations", "annotation"}
    | {"ground_truth", "groundtruth", "ground-truth", "ground truth", "gt", "segmentations", "segmentation"}
)
_ENDINGS = ("_mask", "_masks", "_seg", "_segmentation", "_label", "_labels", "_gt", "_annotation")


def check_annotated(files: Iterable[Path]) -> None:
    """Raises ``UserError`` where files are images and their masks.

    Those are a folder of masks beside one of images (``images/`` and ``masks/``, ``imagesTr/`` and ``labelsTr/``), both with
    some of the files below them, and ``a_mask.png`` beside ``a.png``.
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
    above = {folder for path in paths for folder in path.parents}
    named = {(folder.parent, folder.name.casefold()): folder for folder in sorted(above)}
    for (parent, name), folder in named.items():
        images = next((named[parent, other] for other in _IMAGES if (parent, other) in named), None)
        if name in _MASKS and images:
            raise UserError(f"{folder} beside {images} holds masks, which are no images to predict: give {images}.")
