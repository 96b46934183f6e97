"""Splits that somebody made, in a file: of a run, of nnU-Net, or a table."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from allukan.data.dataset import GivenSplit
from allukan.data.splits import PARTS
from allukan.errors import UserError
from allukan.files import nfc, read_json, read_table

Folds = Mapping[int | None, Mapping[str, tuple[str, ...]]]
_NAMES = {
    "train": "train",
    "training": "train",
    "trainval": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}


def part_named(name: Any) -> str:
    """ "train", "val" or "test" for the names that are in use for them; empty for anything else.

    >>> part_named("Validation"), part_named("testing"), part_named("images")
    ('val', 'test', '')
    """
    return _NAMES.get(str(name).strip().lower(), "")


def read_splits(path: str | Path) -> GivenSplit:
    """A file of splits: a ``splits.json`` of a run, a ``splits_final.json`` of nnU-Net, or a CSV with the columns id and split.

    Raises ``UserError`` for a file that cannot be read or is none of these, and for an id that stands twice.
    """
    path = Path(path)
    try:
        folds: Folds = _from_json(read_json(path)) if path.suffix.lower() == ".json" else {None: _from_table(read_table(path))}
    except OSError:
        raise UserError(
            f"splits {path} cannot be read: give a splits.json, a splits_final.json, or a CSV of id and split."
        ) from None
    except UserError:
        raise
    except ValueError as error:
        raise UserError(f"{path} is not a file of splits: {error}.") from None
    for fold, parts in folds.items():
        _check_parts(parts, f"{path}" if fold is None else f"fold {fold} of {path}")
    return GivenSplit(str(path), folds)


def _from_json(raw: Any) -> Folds:
    if isinstance(raw, list) and raw:
        return {number: _parts(fold) for number, fold in enumerate(raw)}
    parts = _parts(raw)
    own = isinstance(raw, dict) and "protocol" in raw  # a run of train and validation only has an empty list of test images
    return {None: {part: ids for part, ids in parts.items() if ids or not own}}


def _parts(raw: Any) -> Mapping[str, tuple[str, ...]]:
    named = {part_named(key): value for key, value in raw.items() if part_named(key)} if isinstance(raw, dict) else {}
    if not named:
        raise ValueError("it holds no lists 'train', 'val' and 'test'")
    for part, ids in named.items():
        if not isinstance(ids, list) or not all(isinstance(name, str) for name in ids):
            raise ValueError(f"its part {part!r} is no list of ids")
    return {part: tuple(map(nfc, named[part])) for part in PARTS if part in named}


def _from_table(rows: Sequence[Mapping[str, str]]) -> Mapping[str, tuple[str, ...]]:
    columns = {name.lower(): name for name in rows[0]} if rows else {}
    if not {"id", "split"} <= set(columns):
        raise ValueError(f"it has the columns {', '.join(columns) or 'none'}, needed are 'id' and 'split'")
    found: dict[str, list[str]] = defaultdict(list)
    for number, row in enumerate(rows, 2):
        name, part = row[columns["id"]].strip(), row[columns["split"]].strip()
        if not name or not part_named(part):
            raise ValueError(f"row {number} says {name!r}: {part!r} where an id and train, val or test are expected")
        found[part_named(part)].append(name)
    return {part: tuple(found[part]) for part in PARTS if part in found}


def _check_parts(parts: Mapping[str, Sequence[str]], where: str) -> None:
    for part, ids in parts.items():
        if not ids:
            raise UserError(f"the part {part!r} of {where} is empty: fill it or leave it out.")
    if "train" not in parts or len(parts) < 2:
        raise UserError(f"{where} has only the part {', '.join(parts)!r}: give train, and val or test or both.")
    where_of: dict[str, str] = {}
    for part, ids in parts.items():
        for name in ids:
            if name in where_of:
                places = f"twice into {part}" if where_of[name] == part else f"into {where_of[name]} and into {part}"
                raise UserError(f"{where} puts {name!r} {places}: leave one of them out.")
            where_of[name] = part


def nnunet_splits(root: Path, ids: Iterable[str]) -> GivenSplit:
    """The ``splits_final.json`` of an nnU-Net raw folder: in it, beside it, or in ``nnUNet_preprocessed``."""
    places = (root, root.parent, root.parent.parent / "nnUNet_preprocessed" / root.name)
    notes = []
    for path in (place / "splits_final.json" for place in places):
        if path.is_file():
            found = read_splits(path)
            if path.parent == root or any(set(ids) & set(names) for parts in found.folds.values() for names in parts.values()):
                return found
            notes.append(f"{path} is not used: it names no image of {root}.")
    return GivenSplit(notes=tuple(notes))


def with_test(given: GivenSplit, train: Iterable[str], test: Iterable[str], where: str) -> GivenSplit:
    """The same split with images for test, which stand in ``where``; ``train`` counts where there was no split."""
    tested = tuple(test)
    if not tested:
        return given
    if not given.folds:
        return replace(given, origin=where, folds={None: {"train": tuple(train), "test": tested}})
    folds = {number: {**parts, "test": tested} for number, parts in given.folds.items()}
    return replace(given, origin=f"{given.origin} and {where}", folds=folds)
