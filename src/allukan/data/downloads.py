"""Sets as they are downloaded: masks beside their images."""

from __future__ import annotations

import logging
import re
from collections import Counter
from os.path import isdir  # which is False where Path.is_dir raises: no permission
from pathlib import Path
from typing import NamedTuple

from allukan.data.names import case_id, may_look
from allukan.data.pairing import Problem, by_id, find_images, masks_by_id
from allukan.data.roles import owned
from allukan.errors import UserError

_DEPTH = 2  # of folders within a folder that are looked into: whoever names a whole disk should not wait
_log = logging.getLogger("allukan")


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
    inner = [path for path in may_look(root) if isdir(path)] if depth else []
    return [root, *(folder for path in inner for folder in inner_folders(path, depth - 1))]


def _within(folder: Path, problems: list[Problem]) -> Beside:
    files = find_images(folder)
    names = {case_id(path) for path in files}
    kinds: dict[bool, list[Path]] = {False: [], True: []}
    for path in files:
        kinds[owned(case_id(path), names)].append(path)
    images = by_id(kinds[False], problems)
    return Beside(images, masks_by_id(kinds[True], images, problems, several=True))
