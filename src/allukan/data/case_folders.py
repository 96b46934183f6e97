"""A folder an image, as BraTS and KiTS come: what the names of the files add to that of the folder tells them apart."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from allukan.data.downloads import inner_folders
from allukan.data.names import bare, case_id
from allukan.data.pairing import Problem, find_images
from allukan.data.roles import is_mask_word
from allukan.errors import UserError

_Files = Mapping[str, Path]  # of one folder, by pattern: "*_t1" of P1/P1_t1.nii.gz, "*/imaging" of P1/imaging.nii.gz


class CaseFolders(NamedTuple):
    """Files of the images and label maps by id, ``Dataset.patterns``, names of the channels, and what is not used."""

    images: dict[str, tuple[Path, ...]]
    masks: dict[str, Path]
    patterns: tuple[str, ...]
    channels: tuple[str, ...]
    notes: tuple[str, ...]


def case_folders(root: Path, problems: list[Problem]) -> CaseFolders | None:
    """The folders below ``root`` that hold the same files each, of which one is called a mask; None where there are no two.

    An image without its mask is left out with a note. A folder with other files than most is a problem. Raises ``UserError``
    where several of the files are called masks.
    """
    held = {folder: found for folder in inner_folders(root)[1:] if (found := _by_pattern(folder))}
    counts = Counter(frozenset(files) for files in held.values() if any(map(_is_mask, files)))
    usual, times = counts.most_common(1)[0] if counts else (frozenset[str](), 0)
    masks, channels = (sorted(p for p in usual if _is_mask(p) == kind) for kind in (True, False))
    if times < 2 or not channels:
        return None
    if len(masks) > 1:
        example = next(folder for folder, files in held.items() if files.keys() == usual)
        raise UserError(f"{example} holds {' and '.join(map(_word, masks))}, which both may be the mask: keep one of them.")
    complete = {folder: files for folder, files in held.items() if files.keys() == usual}
    rest = {folder: files for folder, files in held.items() if folder not in complete}
    bare_images = [folder for folder, files in rest.items() if files.keys() == set(channels)]
    problems += [
        _odd(folder, files, usual) for folder, files in rest.items() if files.keys() & usual and folder not in bare_images
    ]
    names = _names(root, complete)
    return CaseFolders(
        {names[folder]: tuple(files[pattern] for pattern in channels) for folder, files in complete.items()},
        {names[folder]: files[masks[0]] for folder, files in complete.items()},
        tuple(channels),
        tuple(map(_word, channels)) if len(channels) > 1 else (),
        _unlabelled(bare_images, _word(masks[0])),
    )


def _by_pattern(folder: Path) -> _Files:
    """Nothing of a folder in which no file is read."""
    try:
        files = find_images(folder)
    except (UserError, OSError):
        return {}
    stems = {path: bare(path).name for path in files}
    return {"*" + stem.removeprefix(folder.name) if stem.startswith(folder.name) else f"*/{stem}": p for p, stem in stems.items()}


def _word(pattern: str) -> str:
    """What a pattern says beside the name of the image.

    >>> _word("*_t1"), _word("*/imaging")
    ('t1', 'imaging')
    """
    return pattern.lstrip("*/_-. ")


def _is_mask(pattern: str) -> bool:
    return is_mask_word(_word(pattern))


def _odd(folder: Path, files: Iterable[str], usual: Iterable[str]) -> Problem:
    own, others = (", ".join(_word(pattern) or "its name" for pattern in sorted(patterns)) for patterns in (files, usual))
    return Problem(case_id(folder), f"{folder} holds {own} and other folders {others}: rename or remove what differs.")


def _names(root: Path, folders: Iterable[Path]) -> dict[Path, str]:
    """Names of the folders, with those above where two are the same."""
    ids = {folder: case_id(folder) for folder in folders}
    twice = len(set(ids.values())) < len(ids)
    return {folder: folder.relative_to(root).as_posix() for folder in ids} if twice else ids


def _unlabelled(folders: list[Path], mask: str) -> tuple[str, ...]:
    return (f"without {mask} and not used: {len(folders)} of the images, as {folders[0]}.",) if folders else ()
