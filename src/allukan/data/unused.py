"""What lies in the folder of a dataset and is not used, in sentences."""

from __future__ import annotations

from collections.abc import Collection
from os.path import isdir
from pathlib import Path

from allukan.data.given_splits import part_named
from allukan.data.names import may_look
from allukan.data.pairs import is_file

_LISTS = (".txt", ".csv", ".tsv")


def unused(root: Path, used: Collection[Path], why: str = "") -> tuple[str, ...]:
    """A sentence, with its reason, for every folder of images in ``root`` that is none of ``used``, nor above or below one.

    Also for lists called as parts of a split, ``train.txt``.
    """
    near = {*used, *(above for path in used for above in path.parents)}
    others = [path for path in may_look(root) if isdir(path) and path not in near and not any(map(path.is_relative_to, used))]
    lists = [path for path in may_look(root) if path.suffix.lower() in _LISTS and part_named(path.stem)]
    return (
        *(f"{path} is not used{why}." for path in others if _holds_images(path)),
        *(f"{path} is not used: a split is told by --splits FILE." for path in lists),
    )


def _holds_images(folder: Path) -> bool:
    found = may_look(folder)
    return any(map(is_file, found)) or any(is_file(path) for inner in found if isdir(inner) for path in may_look(inner))
