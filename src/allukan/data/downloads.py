"""Sets as they are downloaded: folders of images and masks by whatever name, and masks beside their images."""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Sequence
from os.path import isdir  # which is False where Path.is_dir raises: no permission
from pathlib import Path
from typing import NamedTuple

from allukan.data.names import IMAGE_FOLDERS, MASK_FOLDERS, bare, case_id, is_image, is_volume, visible
from allukan.data.pairing import Problem, by_id, find_images, masks_by_id
from allukan.data.roles import mask_owner, owned
from allukan.errors import UserError

_DEPTH = 2  # of folders within a folder that are looked into: whoever names a whole disk should not wait
_log = logging.getLogger("allukan")


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
    held = {path: {bare(file).name for file in _listed(path) if _is_file(file)} for path in _listed(root) if isdir(path)}
    folders = [path for path, names in held.items() if names]
    if len(folders) == 2:
        for images, masks in (folders, folders[::-1]):
            if all(mask_owner(name, held[images]).word for name in held[masks]):
                return Pair(images, masks)
    return None


def _is_file(path: Path) -> bool:
    return not isdir(path) and (is_image(path) or is_volume(path))


def _called(root: Path, names: Sequence[str]) -> Path | None:
    """The folder of the first name, else the only one of any, in upper or lower case."""
    if isdir(root / names[0]):
        return root / names[0]
    found = [path for path in _listed(root) if path.name.casefold() in names and isdir(path)]
    if len(found) > 1:
        both = f"{found[0].name} and {found[1].name}"
        raise UserError(f"{root} has the folders {both}, which both may hold {names[0]}: rename one to {names[0]}.")
    return found[0] if found else None


def _listed(folder: Path) -> list[Path]:
    """Nothing where it may not be looked at: what is not this dataset is no reason to stop."""
    try:
        return visible(folder)
    except OSError:
        return []


class Beside(NamedTuple):
    """Images and their masks by id."""

    images: dict[str, Path]
    masks: dict[str, tuple[Path, ...]]


def beside(root: Path, problems: list[Problem]) -> Beside:
    """``a_mask.png`` beside ``a.png``, in a folder or in folders within it, as BUSI and GlaS come; empty where there are none.

    Also ``a_anno``, ``a_mask_1`` and their like. The folder stands before the name in the ids where names would be the same.
    """
    found, left_out = dict[Path, Beside](), list[str]()
    for folder in inner_folders(root):
        try:
            found[folder] = _within(folder, problems)
        except (UserError, OSError) as error:  # nothing in it is read
            left_out.append(str(error))
    if not any(one.masks for one in found.values()):
        return Beside({}, {})
    for sentence in left_out:
        _log.warning(sentence)
    once = max(Counter(name for one in found.values() for name in one.images).values()) == 1
    joined = Beside({}, {})
    for folder, one in found.items():
        before = "" if once or folder == root else f"{folder.relative_to(root).as_posix()}/"
        joined.images.update({before + name: path for name, path in one.images.items()})
        joined.masks.update({before + name: paths for name, paths in one.masks.items()})
    return joined


def without_series(found: Beside) -> tuple[Beside, tuple[str, ...]]:
    """Without what is called a time series and has no mask, ``patient001_4d`` of ACDC, and a note on it."""
    series = sorted(name for name in found.images.keys() - found.masks.keys() if re.search("[_-]4d$", name, re.IGNORECASE))
    if not series:
        return found, ()
    images = {name: path for name, path in found.images.items() if name not in series}
    return Beside(images, found.masks), (f"{len(series)} time series without masks, as {series[0]}, are not used.",)


def patients(found: Beside) -> tuple[dict[str, str], tuple[str, ...]]:
    """The folder of every image, where folders are patients, and a note that it is so; else nothing.

    They are where each has a few images that begin with its name, as in ACDC, not where there are a few of them with many, as the
    ``benign``, ``malignant`` and ``normal`` of BUSI: more folders than images in any of them.
    """
    counts = Counter(path.parent for path in found.images.values())
    few = 1 < max(counts.values()) < len(counts)
    if not few or not all(path.name.startswith(path.parent.name) for path in found.images.values()):
        return {}, ()
    note = (
        f"{len(counts)} folders, as {min(counts)}, are taken for patients, whose images stay together (if not: --groups re:.*)."
    )
    return {name: path.parent.name for name, path in found.images.items()}, (note,)


def inner_folders(root: Path, depth: int = _DEPTH) -> list[Path]:
    """``root`` and the folders within it, two deep."""
    inner = [path for path in _listed(root) if isdir(path)] if depth else []
    return [root, *(folder for path in inner for folder in inner_folders(path, depth - 1))]


def _within(folder: Path, problems: list[Problem]) -> Beside:
    files = find_images(folder)
    names = {case_id(path) for path in files}
    kinds: dict[bool, list[Path]] = {False: [], True: []}
    for path in files:
        kinds[owned(case_id(path), names)].append(path)
    images = by_id(kinds[False], problems)
    return Beside(images, masks_by_id(kinds[True], images, problems, several=True))
