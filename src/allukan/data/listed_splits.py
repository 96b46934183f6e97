"""The split that a JSON datalist makes: by its lists "training", "validation" and "test", or by a key "fold" of its entries."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from allukan.data.dataset import GivenSplit
from allukan.data.given_splits import part_named
from allukan.data.names import case_id
from allukan.data.splits import PARTS
from allukan.errors import UserError


@dataclass(frozen=True)
class Listed:
    """One entry of a datalist with a label: the list it is in, the fold that it validates, and what its id begins with."""

    entry: Mapping[str, Any]
    key: str
    fold: Any = None
    prefix: str = ""

    @property
    def part(self) -> str:
        """ "train", "val" or "test"."""
        return part_named(self.key)


def labelled_entries(info: Mapping[str, Any], path: Path) -> tuple[list[Listed], tuple[str, ...]]:
    """Entries with an image and a label of the lists "training", "validation" and "test", and sentences on those without.

    Where images of two lists have the same name, the ids of all begin with their part: ``train/0001``.
    Raises ``UserError`` unless "training" is a list of entries that all have both.
    """
    lists = {key: info[key] for key in info if part_named(key) and key != "train" and isinstance(info[key], list)}
    found, notes = [], []
    if not isinstance(info.get("training"), list) or not all(map(_complete, info["training"])):
        raise UserError(f"{path} has no 'training' list of {{'image': …, 'label': …}} entries.")
    for key, entries in lists.items():
        labelled = [entry for entry in entries if _complete(entry)]
        found += [Listed(entry, key, entry.get("fold")) for entry in labelled]
        if rest := len(entries) - len(labelled):
            notes.append(f"{rest} of {len(entries)} entries of {key!r} in {path} have no label: they are not used.")
    stems = {(case_id(Path(str(_first(one.entry)))), one.part) for one in found}
    if max(Counter(stem for stem, _ in stems).values(), default=1) > 1:
        found = [replace(one, prefix=f"{one.part}/") for one in found]
    return found, tuple(notes)


def _complete(entry: Any) -> bool:
    return isinstance(entry, dict) and "image" in entry and "label" in entry


def _first(entry: Mapping[str, Any]) -> Any:
    return entry["image"][0] if isinstance(entry["image"], list) and entry["image"] else entry["image"]


def listed_split(path: Path, entries: Mapping[str, Listed], notes: tuple[str, ...]) -> GivenSplit:
    """The split that a datalist makes of its entries by id: by its lists, and by "fold" in those of "training"."""
    parts: dict[str, list[str]] = defaultdict(list)
    for name, one in entries.items():
        parts[one.part].append(name)
    folds = {name: one.fold for name, one in entries.items() if one.part == "train" and one.fold is not None}
    held = {part: tuple(parts[part]) for part in PARTS if parts[part]}
    if folds and "val" in held:
        notes = (*notes, f"the key 'fold' in {path} is not used: there is a list 'validation'.")
    elif folds:
        return GivenSplit(f"'fold' in {path}", _folds(path, folds, held), notes)
    origin = f"lists {', '.join(held)} of {path}"
    return GivenSplit(origin, {None: held}, notes) if len(held) > 1 else GivenSplit(notes=notes)


def _folds(
    path: Path, folds: Mapping[str, Any], held: Mapping[str, tuple[str, ...]]
) -> dict[int | None, Mapping[str, tuple[str, ...]]]:
    for name in held["train"]:
        if type(folds.get(name)) is not int:
            raise UserError(
                f"{path} gives {name!r} the fold {folds.get(name)!r}: every entry of 'training' needs a whole number."
            )
    numbers = sorted(set(folds.values()))
    if len(numbers) < 2:
        raise UserError(f"{path} puts every entry of 'training' into fold {numbers[0]}: nothing is left to train on.")
    chosen: dict[int | None, Mapping[str, tuple[str, ...]]] = {}
    for number in numbers:
        halves = {part: tuple(n for n in held["train"] if (folds[n] == number) == (part == "val")) for part in ("train", "val")}
        chosen[number] = {**held, **halves}
    return chosen
