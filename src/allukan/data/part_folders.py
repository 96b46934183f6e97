"""The layout ``train/ val/ test/``: a folder of images and masks, or one of each, for every part of a split."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from os.path import isdir
from pathlib import Path
from typing import NamedTuple

from allukan.data.dataset import Dataset, GivenSplit
from allukan.data.given_splits import part_named
from allukan.data.names import may_look
from allukan.data.pairs import Pair, is_file, pair_of, pairs_by_part
from allukan.data.splits import PARTS
from allukan.errors import UserError


class Part(NamedTuple):
    """Where the images and masks of a part of a split are, and by which name and in which folder."""

    name: str
    root: Path
    pair: Pair


def part_folders(root: Path) -> dict[str, Part]:
    """The folders below ``root`` that are parts of a split and hold a folder of images, by part.

    Raises ``UserError`` for two of one part, as ``val`` and ``valid``.
    """
    found: dict[str, Part] = {}
    for path in sorted(root.iterdir()):
        part = part_named(path.name)
        if part and path.is_dir() and (pair := pair_of(path)):
            if part in found:
                raise UserError(f"{root} has the folders {found[part].name} and {path.name} for one part: join them.")
            found[part] = Part(path.name, path, pair)
    return {part: found[part] for part in PARTS if part in found}


def paired_parts(root: Path) -> dict[str, Part]:
    """The same of ``train_images/``, ``train_masks/``, ``test_images/`` … without a folder for a part."""
    pairs = pairs_by_part(root)
    return {part: Part(pairs[part].images.name, root, pairs[part]) for part in PARTS if part in pairs}


def open_parts(root: Path, parts: Mapping[str, Part], open_one: Callable[[Part], Dataset]) -> Dataset:
    """The images of all parts as one dataset with the split that they are; ``open_one`` opens a part.

    A test folder without masks is left out with a note. Where images of two parts have the same name, the ids of all begin with
    their part: ``train/0001``. Raises ``UserError`` where the parts differ in layout or classes, and for a set without train.
    """
    notes, used = [], dict(parts)
    if "test" in used and not used["test"].pair.masks.is_dir():
        notes.append(f"{_place(used.pop('test'))} has no masks: its images are not used.")
    if "train" not in used:
        raise UserError(
            f"{root} has the folders {', '.join(used) or 'test'} but none to train on: add train/ with images/ and masks/."
        )
    opened = {part: open_one(found) for part, found in used.items()}
    notes += [note for found in used.values() for note in found.pair.notes]
    if max(Counter(name for dataset in opened.values() for name in dataset.ids).values(), default=1) > 1:
        opened = {part: _prefixed(dataset, part) for part, dataset in opened.items()}
    ids = {part: dataset.ids for part, dataset in opened.items() if dataset.ids}
    origin = f"folders {', '.join(used[part].name for part in ids)} of {root}"
    given = GivenSplit(origin, {None: ids} if len(ids) > 1 else {}, tuple(notes))
    return replace(_merged(root, opened), given=given)


def parts_within(root: Path, pair: Pair) -> dict[str, Part]:
    """The same of ``images/train``, ``masks/train``, ``images/val`` …; empty where ``images`` holds images itself."""
    images, masks = ({part_named(path.name): path for path in may_look(folder) if isdir(path)} for folder in pair[:2])
    if "train" not in images or any(map(is_file, may_look(pair.images))):
        return {}
    found = {part: Pair(path, masks.get(part, pair.masks / path.name)) for part, path in images.items()}
    return {part: Part(found[part].images.name, root, found[part]) for part in PARTS if part in found}


def split_of(root: Path, images: Mapping[str, Path]) -> GivenSplit:
    """The split that folders of parts right below ``root`` make of ``images`` in or below them; none unless all are in such."""
    places = {name: path.relative_to(root).parts[0] for name, path in images.items()}
    parts: dict[str, list[str]] = {part: [] for part in PARTS}
    for name, place in sorted(places.items()):
        parts.setdefault(part_named(place), []).append(name)
    ids = {part: tuple(names) for part, names in parts.items() if names}
    if len(ids) < 2 or "train" not in ids or "" in ids:
        return GivenSplit()
    return GivenSplit(f"folders {', '.join(sorted(set(places.values())))} of {root}", {None: ids})


def overlooked(root: Path, images: Path) -> GivenSplit:
    """No split, with a note on the folders of parts beside ``images`` of ``root``."""
    return GivenSplit(notes=tuple(f"{part.root} is not used: there is {images}." for part in part_folders(root).values()))


def _place(part: Part) -> Path:
    return part.root if part.root.name == part.name else part.pair.images


def _prefixed(dataset: Dataset, part: str) -> Dataset:
    return replace(dataset, cases=tuple(replace(case, id=f"{part}/{case.id}") for case in dataset.cases))


def _merged(root: Path, opened: Mapping[str, Dataset]) -> Dataset:
    first, *others = opened.values()
    for one in others:
        if one.layout != first.layout:
            raise UserError(f"{first.root} has masks as {first.layout} and {one.root} as {one.layout}: make them alike.")
    cases = tuple(sorted((case for one in opened.values() for case in one.cases), key=lambda case: case.id))
    if first.layout == "folders" or first.merged:
        return replace(first, root=root, classes=_same_classes(opened), cases=cases)
    names = dict(pair for one in opened.values() for pair in _named(one))
    values = tuple(sorted(names))
    return replace(first, root=root, classes=tuple(names[value] for value in values), cases=cases, label_values=values)


def _named(dataset: Dataset) -> Iterator[tuple[int, str]]:
    return zip(dataset.label_values, dataset.classes, strict=True)


def _same_classes(opened: Mapping[str, Dataset]) -> tuple[str, ...]:
    first, *others = opened.values()
    for one in others:
        if one.classes != first.classes:
            theirs, ours = ", ".join(one.classes), ", ".join(first.classes)
            raise UserError(f"{one.root} has the classes {theirs or 'none'} and {first.root} {ours}: make their folders alike.")
    return first.classes
