"""A folder an image, as BraTS and KiTS come: what the names of the files add to that of the folder tells them apart."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from allukan.data.downloads import inner_folders
from allukan.data.names import bare, case_id
from allukan.data.pairing import Problem, find_images
from allukan.data.roles import has_mask_word, is_mask_word
from allukan.errors import UserError

_RESULT = re.compile(r"pred|overlay|viz|visual|lesion|tumou?r|roi", re.IGNORECASE)  # in names of what is no channel
_Files = Mapping[str, Path]  # of one folder, by pattern: "*_t1" of P1/P1_t1.nii.gz, "*/imaging" of P1/imaging.nii.gz


class CaseFolders(NamedTuple):
    """Files of the images and label maps by id, ``Dataset.patterns``, names of the channels, groups, and what is not used."""

    images: dict[str, tuple[Path, ...]]
    masks: dict[str, Path]
    patterns: tuple[str, ...]
    channels: tuple[str, ...]
    groups: dict[str, str]
    notes: tuple[str, ...]


def case_folders(root: Path, problems: list[Problem]) -> CaseFolders | None:
    """The folders below ``root`` that hold the same files each, of which one is called a mask; None where there are no two.

    An image without its mask is left out with a note, a folder with other files than most is a problem, and one without any of
    theirs noted. Folders within those of patients are groups. Raises ``UserError`` where several of the files may be masks.
    """
    doubles = list[Problem]()
    held = {folder: found for folder in inner_folders(root)[1:] if (found := _by_pattern(folder, doubles))}
    usual = _usual(held)
    if usual is None:
        return None
    mask, channels = usual
    complete = {folder: files for folder, files in held.items() if files.keys() == {mask, *channels}}
    unlabelled = [folder for folder, files in held.items() if files.keys() == set(channels)]
    others = [folder for folder in held if folder not in complete and folder not in unlabelled]
    problems += doubles
    problems += [_odd(folder, held[folder], {mask, *channels}) for folder in others if held[folder].keys() & {mask, *channels}]
    places = {folder.parent for folder in complete}
    strange = [folder for folder in others if folder.parent in places and not held[folder].keys() & {mask, *channels}]
    names = _names(root, complete)
    groups, note = _patients(root, names)
    return CaseFolders(
        {names[folder]: tuple(files[pattern] for pattern in channels) for folder, files in complete.items()},
        {names[folder]: files[mask] for folder, files in complete.items()},
        channels,
        tuple(map(_word, channels)) if len(channels) > 1 else (),
        groups,
        (*_note(unlabelled, _word(mask)), *_note_strange(strange), *_note_channels(mask, channels), *note),
    )


def _by_pattern(folder: Path, doubles: list[Problem]) -> _Files:
    """Nothing of a folder in which no file is read; files of one name are ``doubles``."""
    try:
        files = find_images(folder)
    except (UserError, OSError):
        return {}
    found: dict[str, Path] = {}
    for path in files:
        stem = bare(path).name
        named = re.fullmatch(rf"{re.escape(folder.name)}([_\-. ].+)?", stem)
        other = found.setdefault(f"*{named[1] or ''}" if named else f"*/{stem}", path)
        if other is not path:
            doubles.append(Problem(case_id(folder), f"{path} and {other.name} have the same name: keep one of them."))
    return found


def _usual(held: Mapping[Path, _Files]) -> tuple[str, tuple[str, ...]] | None:
    """The mask and the other files that most folders with a mask hold, sorted; None where no two hold the same."""
    counts = Counter(frozenset(files) for files in held.values() if any(map(_is_mask, files)))
    usual, times = counts.most_common(1)[0] if counts else (frozenset[str](), 0)
    masks, channels = (sorted(pattern for pattern in usual if _is_mask(pattern) == kind) for kind in (True, False))
    if times < 2 or channels in ([], ["*"]):  # P1/P1.png beside P1/P1_mask.png is the layout of BUSI, which takes several masks
        return None
    doubtful = masks + [pattern for pattern in channels if has_mask_word(_word(pattern)) or _RESULT.search(_word(pattern))]
    if len(doubtful) > 1:
        example = next(folder for folder, files in held.items() if files.keys() == usual)
        raise UserError(f"{example} holds {' and '.join(map(_word, doubtful))}, which may all be masks: keep one of them.")
    return masks[0], tuple(channels)


def _patients(root: Path, names: Mapping[Path, str]) -> tuple[dict[str, str], tuple[str, ...]]:
    """The folder above of every image, where more of them than images in any hold several, as visits of patients; and a note."""
    counts = Counter(folder.parent for folder in names)
    if not 1 < max(counts.values(), default=0) < len(counts):
        return {}, ()
    example = min(counts)
    note = f"{len(counts)} folders, as {example}, are taken for patients, whose images stay together (if not: --groups re:.*)."
    return {name: folder.parent.relative_to(root).as_posix() for folder, name in names.items()}, (note,)


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


def _note(folders: list[Path], mask: str) -> tuple[str, ...]:
    return (f"without {mask} and not used: {len(folders)} of the images, as {folders[0]}.",) if folders else ()


def _note_strange(folders: list[Path]) -> tuple[str, ...]:
    what = "folders hold other files than the rest and are not used, as"
    return (f"{len(folders)} {what} {folders[0]}.",) if folders else ()


def _note_channels(mask: str, channels: Sequence[str]) -> tuple[str, ...]:
    """The names of BraTS are known; whoever has others may not mean them all."""
    shown = ", ".join(_word(channel) or "its name" for channel in channels)
    return (f"{_word(mask)} is taken for the mask, and the other files for channels: {shown}.",) if len(channels) > 1 else ()
