"""A folder an image, with a folder of its masks: a file a nucleus in DSB 2018, a file a class in TotalSegmentator."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from os.path import isdir  # which is False where Path.is_dir raises: no permission
from pathlib import Path
from typing import NamedTuple

from allukan.data.names import IMAGE_FOLDERS, MASK_FOLDERS, case_id, may_look
from allukan.data.pairing import Problem, find_images
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
    image: Path
    masks: dict[str, Path]


def mask_folders(root: Path, problems: list[Problem]) -> MaskFolders | None:
    """The folders in ``root`` with an image and a folder of masks each; None where there are no two.

    ``P1/images/P1.png`` with ``P1/masks/*.png``, or ``P1/ct.nii.gz`` with ``P1/segmentations/*.nii.gz``. Names of masks that most
    images share are classes, and an image that lacks one of them is a problem; else masks are united. An image without masks is
    left out with a note.
    """
    found = {path: one for path in may_look(root) if isdir(path) and (one := _look(path))}
    held = {path: one for path, one in found.items() if one.masks}
    named = all(one.image.parent != path or case_id(one.image) == path.name for path, one in held.items())
    if len(held) < 2 or not (named or len({one.image.name for one in held.values()}) == 1):
        return None
    classes = _classes(held)
    for path, one in list(held.items()):
        if classes and one.masks.keys() != set(classes):
            problems.append(_odd(path, one.masks, classes))
            del held[path]
    return MaskFolders(
        {path.name: one.image for path, one in held.items()},
        {path.name: one.masks for path, one in held.items()},
        classes,
        "*" if named else f"*/{case_id(next(iter(held.values())).image)}",
        _note([path for path, one in found.items() if not one.masks]),
    )


def _look(folder: Path) -> _Folder | None:
    """One image, in the folder or in ``images`` of it, where it is called as the folder; and all of ``masks``, maybe none."""
    inner = {path.name.casefold(): path for path in may_look(folder) if isdir(path)}
    masks = [path for name, path in inner.items() if name in MASK_FOLDERS]
    place = next((path for name, path in inner.items() if name in IMAGE_FOLDERS), folder)
    images = _files(place)
    if len(images) != 1 or len(masks) > 1 or (place != folder and case_id(images[0]) != folder.name):
        return None
    files = _files(masks[0]) if masks else []
    named = {case_id(path): path for path in files}
    return _Folder(images[0], named if len(named) == len(files) else {path.name: path for path in files})


def _files(folder: Path) -> list[Path]:
    try:
        return find_images(folder)
    except (UserError, OSError):
        return []


def _classes(held: Mapping[Path, _Folder]) -> tuple[str, ...]:
    """The names of masks that more than half of the images have."""
    names, times = Counter(frozenset(one.masks) for one in held.values()).most_common(1)[0]
    return tuple(sorted(names)) if 2 * times > len(held) else ()


def _odd(path: Path, masks: Mapping[str, Path], classes: tuple[str, ...]) -> Problem:
    less, more = sorted(set(classes) - set(masks)), sorted(set(masks) - set(classes))
    what = f"lacks the mask {less[0]}, which other images have: add an empty one" if less else f"has a mask {more[0]} of its own"
    return Problem(path.name, f"{path} {what}, or remove {'the folder' if less else 'it'}.")


def _note(folders: list[Path]) -> tuple[str, ...]:
    return (f"without masks and not used: {len(folders)} of the images, as {folders[0]}.",) if folders else ()
