"""A folder an image, with a folder of its masks: a file a nucleus in DSB 2018, a file a class in TotalSegmentator."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from os.path import isdir  # which is False where Path.is_dir raises: no permission
from pathlib import Path
from typing import NamedTuple

from allukan.data.names import IMAGE_FOLDERS, MASK_FOLDERS, case_id, may_look
from allukan.data.pairing import Problem, find_images
from allukan.data.roles import is_mask_word
from allukan.errors import UserError


class MaskFolders(NamedTuple):
    """Files by id, names of the classes if a file is one, ``Dataset.patterns`` and what is not used.

    ``masks`` has the files of an image by their names.
    """

    images: dict[str, Path]
    masks: dict[str, dict[str, Path]]
    classes: tuple[str, ...]
    pattern: str
    notes: tuple[str, ...]


class _Folder(NamedTuple):
    images: list[Path]
    masks: dict[str, Path]
    places: int  # of masks


def mask_folders(root: Path, problems: list[Problem], *, united: bool = False) -> MaskFolders | None:
    """The folders in ``root`` with an image and a folder of masks each; None where there are no two.

    ``P1/images/P1.png`` with ``P1/masks/*.png``, or ``P1/ct.nii.gz`` with ``P1/segmentations/*.nii.gz``. Names of masks that
    return in other folders are classes, unless all masks are to be ``united``, and an image that lacks one of them is a problem;
    numbered masks, and those with names of their own, are not. An image without masks is left out with a note.
    """
    found = {path: _look(path) for path in may_look(root) if isdir(path)}
    held = {path: one for path, one in found.items() if _is_case(path, one)}
    named = all(one.images[0].parent != path or case_id(one.images[0]) == path.name for path, one in held.items())
    if len(held) < 2 or not (named or len({one.images[0].name for one in held.values()}) == 1):
        return None
    classes = () if united else _classes(held)
    odd = [_unlike(path, one) for path, one in found.items() if one.places and path not in held]
    lacking = {path: problem for path, one in held.items() if (problem := _lacking(path, one, classes))}
    problems += [*odd, *lacking.values()]
    complete = {path: one for path, one in held.items() if path not in lacking}
    return MaskFolders(
        {path.name: one.images[0] for path, one in complete.items()},
        {path.name: one.masks for path, one in complete.items()},
        classes,
        "*" if named else f"*/{case_id(next(iter(held.values())).images[0])}",
        _note([path for path, one in found.items() if not one.places and len(one.images) == 1]),
    )


def _look(folder: Path) -> _Folder:
    """Images, in the folder or in ``images`` of it, and what its folder of masks holds."""
    inner = {path.name.casefold(): path for path in may_look(folder) if isdir(path)}
    masks = [path for name, path in inner.items() if name in MASK_FOLDERS]
    place = next((path for name, path in inner.items() if name in IMAGE_FOLDERS), folder)
    files = _files(masks[0]) if len(masks) == 1 else []
    named = {case_id(path): path for path in files}
    return _Folder(_files(place), named if len(named) == len(files) else {path.name: path for path in files}, len(masks))


def _is_case(folder: Path, one: _Folder) -> bool:
    """One image, which within ``images`` is called as the folder, and masks."""
    if len(one.images) != 1 or not one.masks:
        return False
    return one.images[0].parent == folder or case_id(one.images[0]) == folder.name


def _files(folder: Path) -> list[Path]:
    try:
        return find_images(folder)
    except (UserError, OSError):
        return []


def _classes(held: Mapping[Path, _Folder]) -> tuple[str, ...]:
    """The names of all masks, if some return and they are not one word with numbers, as those of objects are."""
    times = Counter(name for one in held.values() for name in one.masks)
    numbered = all(re.search(r"\d$", name) for name in times) and len({re.sub(r"\d+$", "", name) for name in times}) == 1
    said = any(not is_mask_word(name) for name in times)  # segmentations/labels.nii.gz is a label map
    return tuple(sorted(times)) if said and not numbered and max(times.values()) > 1 else ()


def _lacking(path: Path, one: _Folder, classes: tuple[str, ...]) -> Problem | None:
    for name in classes:
        if name not in one.masks:
            cure = "add an empty one, leave the folder out, or say --foreground to take all masks as one class"
            return Problem(path.name, f"{path} has no mask {name}, which other images have: {cure}.")
    return None


def _unlike(path: Path, one: _Folder) -> Problem:
    counts = f"{len(one.images)} images and {one.places} folders of masks with {len(one.masks)} files"
    return Problem(path.name, f"{path} holds {counts} that are read, other folders one image and its masks: make it alike.")


def _note(folders: list[Path]) -> tuple[str, ...]:
    return (f"without masks and not used: {len(folders)} of the images, as {folders[0]}.",) if folders else ()
