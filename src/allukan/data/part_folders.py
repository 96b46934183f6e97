"""The layout ``train/ val/ test/``: a folder of images and masks for every part of a split."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from allukan.data.dataset import Dataset, GivenSplit
from allukan.data.downloads import Pair, pair_of
from allukan.data.given_splits import part_named
from allukan.data.splits import PARTS
from allukan.errors import UserError


def part_folders(root: Path) -> dict[str, Path]:
    """The folders below ``root`` that are parts of a split and hold a folder of images, by part.

    Raises ``UserError`` for two of one part, as ``val`` and ``valid``.
    """
    found: dict[str, Path] = {}
    for path in sorted(root.iterdir()):
        part = part_named(path.name)
        if part and path.is_dir() and pair_of(path):
            if part in found:
                raise UserError(f"{root} has the folders {found[part].name} and {path.name} for one part: join them.")
            found[part] = path
    return {part: found[part] for part in PARTS if part in found}


def open_parts(root: Path, folders: Mapping[str, Path], open_one: Callable[[Path, Pair], Dataset]) -> Dataset:
    """The images of all parts as one dataset with the split that they are; ``open_one`` opens a folder.

    A test folder without masks is left out with a note. Where images of two parts have the same name, the ids of all begin with
    their part: ``train/0001``. Raises ``UserError`` where the parts differ in layout or classes, and for a set without train.
    """
    notes, pairs = [], {part: pair for part, path in folders.items() if (pair := pair_of(path))}
    if "test" in pairs and not pairs["test"].masks.is_dir():
        notes.append(f"{folders['test']} has no masks: its images are not used.")
        del pairs["test"]
    if "train" not in pairs:
        raise UserError(
            f"{root} has the folders {', '.join(pairs) or 'test'} but none to train on: add train/ with images/ and masks/."
        )
    opened = {part: open_one(folders[part], pair) for part, pair in pairs.items()}
    if max(Counter(name for dataset in opened.values() for name in dataset.ids).values(), default=1) > 1:
        opened = {part: _prefixed(dataset, part) for part, dataset in opened.items()}
    ids = {part: dataset.ids for part, dataset in opened.items() if dataset.ids}
    origin = f"folders {', '.join(folders[part].name for part in ids)} of {root}"
    given = GivenSplit(origin, {None: ids} if len(ids) > 1 else {}, tuple(notes))
    return replace(_merged(root, opened), given=given)


def overlooked(root: Path, images: Path) -> GivenSplit:
    """No split, with a note on the folders of parts beside ``images`` of ``root``."""
    return GivenSplit(notes=tuple(f"{path} is not used: there is {images}." for path in part_folders(root).values()))


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
