"""The layout ``train/ val/ test/``: a folder of images and masks, or one of each, for every part of a split."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from os.path import isdir
from pathlib import Path
from typing import NamedTuple

from allukan.data.dataset import Dataset, GivenSplit
from allukan.data.given_splits import part_named
from allukan.data.names import may_look
from allukan.data.pairs import FIELDS_OF_VIEW, Pair, is_file, pair_of, pairs_by_part
from allukan.data.splits import PARTS
from allukan.data.unused import unused
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
    found = {path: pair for path in may_look(root) if isdir(path) and part_named(path.name) and (pair := pair_of(path))}
    parts = {part: Part(path.name, path, found[path]) for part, path in _by_part(root, found).items()}
    return _without_fields_of_view(parts)


def paired_parts(root: Path) -> dict[str, Part]:
    """The same of ``train_images/``, ``train_masks/``, ``test_images/`` … without a folder for a part."""
    pairs = pairs_by_part(root)
    return {part: Part(pairs[part].images.name, root, pairs[part]) for part in PARTS if part in pairs}


def parts_within(root: Path, pair: Pair) -> dict[str, Part]:
    """The same of ``images/train``, ``masks/train``, ``images/val`` …; empty where ``images`` holds images itself."""
    images, masks = (_by_part(folder, filter(isdir, may_look(folder))) for folder in pair[:2])
    if "train" not in images or any(map(is_file, may_look(pair.images))):
        return {}
    return {part: Part(path.name, root, Pair(path, masks.get(part, pair.masks / path.name))) for part, path in images.items()}


def _by_part(root: Path, folders: Iterable[Path]) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for path in folders:
        if part := part_named(path.name):
            other = found.setdefault(part, path)
            if other != path:
                raise UserError(f"{root} has the folders {other.name} and {path.name} for one part: join them, or keep one.")
    return {part: found[part] for part in PARTS if part in found}


def _without_fields_of_view(parts: Mapping[str, Part]) -> dict[str, Part]:
    """Where one part has manual masks beside its field of view, one that has the latter alone has no masks: DRIVE's test."""
    manual = [part.pair.masks.name for part in parts.values() if part.pair.fields_of_view]
    found = dict(parts)
    for name, part in parts.items():
        if manual and part.pair.masks.name.casefold() in FIELDS_OF_VIEW:
            found[name] = part._replace(pair=part.pair._replace(masks=part.root / manual[0]))
    return found


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
    notes += [*(note for found in used.values() for note in found.pair.notes), *_unused(root, parts)]
    if max(Counter(name for dataset in opened.values() for name in dataset.ids).values(), default=1) > 1:
        opened = {part: _prefixed(dataset, part) for part, dataset in opened.items()}
    ids = {part: dataset.ids for part, dataset in opened.items() if dataset.ids}
    origin = f"folders {', '.join(used[part].name for part in ids)} of {root}"
    given = GivenSplit(origin, {None: ids} if len(ids) > 1 else {}, tuple(notes))
    return replace(_merged(root, opened), given=given)


def split_of(root: Path, images: Mapping[str, Path]) -> GivenSplit:
    """The split that folders of parts right below ``root`` make of ``images`` in or below them; none unless all are in such."""
    places = {name: path.relative_to(root).parts[0] for name, path in images.items()}
    parts: dict[str, list[str]] = {part: [] for part in PARTS}
    for name, place in sorted(places.items()):
        parts.setdefault(part_named(place), []).append(name)
    ids = {part: tuple(names) for part, names in parts.items() if names}
    if "" in ids and "train" in ids and len(ids) > 2:
        outside = images[ids[""][0]]
        return GivenSplit(notes=(f"the parts of a split in {root} are not used: {outside} is in none of them.",))
    if len(ids) < 2 or "train" not in ids or "" in ids:
        return GivenSplit()
    return GivenSplit(f"folders {', '.join(sorted(set(places.values())))} of {root}", {None: ids})


def _unused(root: Path, parts: Mapping[str, Part]) -> list[str]:
    """Folders beside those of the parts, or within what holds these."""
    used = {path for part in parts.values() for path in part.pair.folders}
    places = {root, *(path.parent for path in used), *(part.root for part in parts.values())}
    why = f": the split is of {', '.join(part.name for part in parts.values())}"
    return [note for place in sorted(places) for note in unused(place, used, why)]


def _place(part: Part) -> Path:
    return part.root if part.root.name == part.name else part.pair.images


def _prefixed(dataset: Dataset, part: str) -> Dataset:
    return replace(dataset, cases=tuple(replace(case, id=f"{part}/{case.id}") for case in dataset.cases))


def _merged(root: Path, opened: Mapping[str, Dataset]) -> Dataset:
    first, *others = opened.values()
    _check_white(root, opened)
    for one in others:
        if one.layout != first.layout:
            raise UserError(f"{first.root} has masks as {first.layout} and {one.root} as {one.layout}: make them alike.")
    cases = tuple(sorted((case for one in opened.values() for case in one.cases), key=lambda case: case.id))
    if first.layout == "folders" or first.merged:
        return replace(first, root=root, classes=_same_classes(opened), cases=cases)
    names = dict(pair for one in opened.values() for pair in _named(one))
    values = tuple(sorted(names))
    return replace(first, root=root, classes=tuple(names[value] for value in values), cases=cases, label_values=values)


def _check_white(root: Path, opened: Mapping[str, Dataset]) -> None:
    """Masks of 0 and 255 in one part and of 0 and 1 in another would be two classes."""
    values = {part: set(dataset.label_values) for part, dataset in opened.items() if dataset.label_values}
    for white, own in values.items():
        for other, theirs in values.items():
            if own == {255} and 255 not in theirs:
                shown = ", ".join(map(str, sorted(theirs)[:5]))
                what = f"the masks of {white} in {root} hold 255 and those of {other} {shown}"
                raise UserError(f"{what}: store them alike, or say --foreground.")


def _named(dataset: Dataset) -> Iterator[tuple[int, str]]:
    return zip(dataset.label_values, dataset.classes, strict=True)


def _same_classes(opened: Mapping[str, Dataset]) -> tuple[str, ...]:
    first, *others = opened.values()
    for one in others:
        if one.classes != first.classes:
            theirs, ours = ", ".join(one.classes), ", ".join(first.classes)
            raise UserError(f"{one.root} has the classes {theirs or 'none'} and {first.root} {ours}: make their folders alike.")
    return first.classes
