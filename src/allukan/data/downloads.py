"""Sets as they are downloaded: folders of images and masks by whatever name, and masks beside their images."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from allukan.data.names import IMAGE_FOLDERS, MASK_FOLDERS, bare, case_id, is_image, mask_owner, owned, search, visible
from allukan.data.pairing import Problem, by_id, find_images, masks_by_id
from allukan.errors import UserError


class Pair(NamedTuple):
    """A folder of images and that of their masks, which may not exist where the first is called ``images``."""

    images: Path
    masks: Path


def pair_of(root: Path) -> Pair | None:
    """``images`` and ``masks`` of a folder, or what stands for them, as ``Original`` and ``Ground Truth`` of CVC-ClinicDB.

    Raises ``UserError`` where several do.
    """
    images = _called(root, IMAGE_FOLDERS)
    masks = _called(root, MASK_FOLDERS) if images else None
    if images is None or (masks is None and images.name != IMAGE_FOLDERS[0]):
        return None
    return Pair(images, masks or root / MASK_FOLDERS[0])


def told_by_files(root: Path) -> Pair | None:
    """The two folders of images of ``root``, where each file of one is by its name a mask of a file of the other.

    So is ISIC, ``…_Input/ISIC_1.jpg`` and ``…_GroundTruth/ISIC_1_segmentation.png``.
    """
    held = {path: {bare(file).name for file in visible(path) if is_image(file)} for path in visible(root) if path.is_dir()}
    folders = [path for path, names in held.items() if names]
    if len(folders) == 2:
        for images, masks in (folders, folders[::-1]):
            if all(mask_owner(name, held[images])[1] for name in held[masks]):
                return Pair(images, masks)
    return None


def _called(root: Path, names: Sequence[str]) -> Path | None:
    """The folder of the first name, else the only one of any, in upper or lower case."""
    if (root / names[0]).is_dir():
        return root / names[0]
    found = [path for path in visible(root) if path.name.casefold() in names and path.is_dir()]
    if len(found) > 1:
        both = f"{found[0].name} and {found[1].name}"
        raise UserError(f"{root} has the folders {both}, which both may hold {names[0]}: rename one to {names[0]}.")
    return found[0] if found else None


class Beside(NamedTuple):
    """Images and their masks by id."""

    images: dict[str, Path]
    masks: dict[str, tuple[Path, ...]]


def beside(root: Path, problems: list[Problem]) -> Beside:
    """``a_mask.png`` beside ``a.png``, in a folder or in folders within it, as BUSI and GlaS come; empty where there are none.

    Also ``a_anno``, ``a_mask_1`` and their like. The folder stands before the name in the ids where names would be the same.
    """
    found = {folder: _within(folder, problems) for folder in sorted({path.parent for path in search(root)})}
    if not any(one.masks for one in found.values()):
        return Beside({}, {})
    once = max(Counter(name for one in found.values() for name in one.images).values()) == 1
    joined = Beside({}, {})
    for folder, one in found.items():
        before = "" if once or folder == root else f"{folder.relative_to(root).as_posix()}/"
        joined.images.update({before + name: path for name, path in one.images.items()})
        joined.masks.update({before + name: paths for name, paths in one.masks.items()})
    return joined


def _within(folder: Path, problems: list[Problem]) -> Beside:
    files = find_images(folder)
    names = {case_id(path) for path in files}
    masks = [path for path in files if owned(case_id(path), names)]
    images = by_id([path for path in files if path not in masks], problems)
    return Beside(images, masks_by_id(masks, images, problems, several=True))
