"""Images to predict that a JSON file lists."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from allukan.data import (
    PICTURE_SUFFIXES,
    VOLUME_SUFFIXES,
    Problem,
    bare,
    channel_names,
    file_patterns,
    is_volume,
    match_pattern,
    not_read,
    on_disk,
)
from allukan.errors import UserError
from allukan.files import read_json
from allukan.inference.grouping import group
from allukan.inference.inputs import check_names, described, file_order
from allukan.inference.predict import InputImage
from allukan.models import ModelCard

_KEYS = ("test", "testing", "image", "images")
_HOW = (
    "expected is a list of files, of lists of the files of an image, or of {'image': …} entries, alone or as 'test' or 'testing'"
)


def read_datalist(path: Path, card: ModelCard) -> list[InputImage]:
    """The images of a JSON list: its entries that are single files grouped by their names, and those that are lists of files.

    The list is the whole content, or stands under "test", "testing", "image" or "images". Every entry is a file, a list of the
    files of one image, or a mapping with one of the two as "image"; paths are relative to the JSON file. Names of channels
    (``channel_names``, ``modality``) are matched with those of the model. A file that does not exist is a fault of its image.

    Raises ``UserError`` for any other content, and where files or names contradict those of the model.
    """
    content = read_json(path)
    names = channel_names(content) if isinstance(content, Mapping) else ()
    entries = [_files(entry, path) for entry in _entries(content, path)]
    base = Path(os.path.commonpath([file.parent for files in entries for file in files]))
    known = VOLUME_SUFFIXES if card.spatial_dims == 3 else PICTURE_SUFFIXES
    single, together, faults = dict[Path, Path](), list[tuple[Path, ...]](), list[InputImage]()
    for files in entries:
        name = bare(files[0]).relative_to(base)
        alone = [file for file in files if not (file.is_dir() and is_volume(file))]
        lacking = next((file for file in alone if not file.is_file()), None)
        unread = next(filter(None, (not_read(file, known) for file in alone)), "")
        if unread:
            faults.append(InputImage(name, files, unread))
        elif lacking:
            faults.append(InputImage(name, files, f"{path} names {lacking}, which does not exist: add it or remove the entry."))
        elif len(files) == 1:
            single[files[0]] = name
        elif card.files and len(files) != len(card.files):
            sentence = f"{path} gives {name} {len(files)} files, but the model expects {described(card.files)}."
            faults.append(InputImage(name, files, sentence))
        else:
            together.append(files)
    return [*faults, *group(single, card, names), *_ordered(together, path, base, names, card)]


def _ordered(
    entries: Sequence[tuple[Path, ...]], where: Path, base: Path, names: Sequence[str], card: ModelCard
) -> list[InputImage]:
    """Lists of the files of an image, each in the order of the model."""
    if not entries:
        return []
    problems = list[Problem]()
    patterns = file_patterns({str(files[0]): files for files in entries}, where, problems)
    faults = {problem.where: problem.what for problem in problems}
    order = file_order(where, patterns, names, card.image_files) if card.files else list(range(len(patterns)))
    images = []
    for files in entries:
        found = match_pattern(bare(files[0]).relative_to(base).as_posix(), patterns[0])
        name = Path("".join(found)) if found else bare(files[0]).relative_to(base)
        ordered = tuple(files[n] for n in order)
        fault = faults.get(str(files[0])) or ("" if names else _contradiction(ordered, card))
        images.append(InputImage(name, ordered, fault))
    return images


def _contradiction(files: Sequence[Path], card: ModelCard) -> str:
    """Why names of files speak against their place."""
    try:
        check_names(files, card.image_files)
    except UserError as error:
        return str(error)
    return ""


def _entries(content: Any, path: Path) -> list[Any]:
    found = [content[key] for key in _KEYS if content.get(key)] if isinstance(content, Mapping) else [content]
    if len(found) != 1 or not isinstance(found[0], list) or not found[0]:
        raise UserError(f"{path} holds no list of images to predict, or several: {_HOW}.")
    return found[0]


def _files(entry: Any, path: Path) -> tuple[Path, ...]:
    image = entry.get("image") if isinstance(entry, Mapping) else entry
    files: list[Any] = image if isinstance(image, list) else [image]
    if not files or not all(isinstance(file, str) and file for file in files):
        raise UserError(f"{path} has an entry {entry!r} that names no image: {_HOW}.")
    return tuple(on_disk(path.parent / file).absolute() for file in files)
