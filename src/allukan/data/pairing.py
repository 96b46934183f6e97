"""Images and masks by name: what belongs together, and what stays alone."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Container, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from allukan.data.dataset import FOREGROUND, Case, Dataset
from allukan.data.decode import PICTURE_SUFFIXES, VOLUME_SUFFIXES
from allukan.data.label_survey import MOST, Survey, class_doubt, ignore_doubt, survey
from allukan.data.names import (
    IMAGE_FOLDERS,
    bare,
    case_id,
    is_image,
    is_picture,
    is_volume,
    not_read,
    odd_name,
    search,
    unread,
    visible,
)
from allukan.data.roles import mask_owner
from allukan.errors import UserError
from allukan.files import read_json as read_any
from allukan.options import LabelRules

_WHITE = 255  # of masks that are black and white
_HIGHEST = 65535  # that a PNG of masks can hold
_NAME = 'If they are classes, name them in dataset.json ("labels": {"tumour": 1})'
_MERGE = "say --foreground to take every label as one class"


@dataclass(frozen=True)
class Problem:
    """One thing that keeps a dataset from being used: an id or a path, and a sentence.

    ``fatal`` is False where it is a doubt only, ``learning`` True where it matters to a training only.
    """

    where: str
    what: str
    fatal: bool = True
    learning: bool = False


def find_images(folder: Path, *, series: bool = False) -> list[Path]:
    """The pictures of a folder, DICOM files beside them too, where there are none its volumes; sorted, without hidden files.

    With ``series`` folders that hold slices of DICOM are volumes as well. ``UserError`` where all are in formats not read.
    """
    every = visible(folder)
    files = [path for path in every if not path.is_dir()]
    wanted, among = (is_picture, files) if any(map(is_image, files)) else (is_volume, every if series else files)
    found = [path for path in among if wanted(path)]
    if not found:
        for sentence in unread(files):
            raise UserError(sentence)
    return found


def by_id(paths: Sequence[Path], problems: list[Problem]) -> dict[str, Path]:
    """Files by their name without suffix (NFC), which must be unique and text."""
    found: dict[str, Path] = {}
    for path in paths:
        name = case_id(path)
        if sentence := odd_name(path):
            problems.append(Problem(name, sentence))
        if name in found:
            alike = bare(path).name == bare(found[name]).name
            same = "have the same name" if alike else "differ only in the Unicode form of their names"
            problems.append(Problem(name, f"{path} and {found[name].name} {same}: keep one of them."))
        found.setdefault(name, path)
    return found


def masks_by_id(
    paths: Sequence[Path], images: Container[str], problems: list[Problem], *, several: bool
) -> dict[str, tuple[Path, ...]]:
    """Masks by the image they are named after, ``ID.png`` or ``ID_mask.png`` (``_seg``, ``_label``, ``_gt`` … as well).

    With ``several`` also ``ID_mask_1.png``, ``ID_mask_2.png`` … of BUSI. A mask of no image keeps its own name.
    """
    found: dict[str, dict[str, list[Path]]] = defaultdict(lambda: defaultdict(list))
    for name, path in by_id(paths, problems).items():
        owner = mask_owner(name, images)
        found[owner.image if several or not owner.number else name][owner.word].append(path)
    for name, kinds in found.items():
        if len(kinds) > 1:
            one, other, *_ = (files[0] for files in kinds.values())
            problems.append(Problem(name, f"{one} and {other.name} both fit image {name!r}: keep one of them."))
    return {name: tuple(next(iter(kinds.values()))) for name, kinds in found.items()}


def find_unpaired(root: Path, images: Iterable[str], masks: Iterable[str], problems: list[Problem]) -> None:
    """Note every image without mask and every mask without image, and why it seems so where a name is nearly right."""
    ids, known = set(images), set(masks)
    have, known = ids - known, known - ids
    by_case = {name.casefold(): name for name in known}
    for name in sorted(have):
        if near := by_case.get(name.casefold()):
            sentence = f"image {name!r} and mask {near!r} of {root} differ in upper and lower case: give them the same name."
            problems.append(Problem(name, sentence))
            have, known = have - {name}, known - {near}
    unread_images, unread_masks = _unread(root, ids) if have or known else ({}, {})
    for name in sorted(have):
        missing = f"image {name!r} of {root} has no mask: add the mask or remove the image."
        problems.append(Problem(name, unread_masks.get(name, missing)))
    for name in sorted(known):
        missing = f"mask {name!r} of {root} has no image: add the image or remove the mask."
        problems.append(Problem(name, unread_images.get(name, missing)))


def _unread(root: Path, ids: Container[str]) -> tuple[dict[str, str], dict[str, str]]:
    """Sentences on files in formats that are not read, by the image: of those beside the images, and of the others."""
    found: tuple[dict[str, str], dict[str, str]] = ({}, {})
    files = list(search(root))
    known = PICTURE_SUFFIXES if any(map(is_image, files)) else VOLUME_SUFFIXES
    for path in files:
        if sentence := not_read(path, known):
            first = path.relative_to(root).parts[0].casefold()
            of_images = first.startswith("images") or first in IMAGE_FOLDERS
            found[0 if of_images else 1][mask_owner(case_id(path), ids).image] = sentence
    return found


@dataclass(frozen=True)
class Declared:
    """What a ``dataset.json`` says about labels: values of the classes by name, empty where it says nothing, and "ignore"."""

    values: Mapping[str, int] = field(default_factory=dict)
    ignored: int | None = None


def label_map_dataset(
    empty: Dataset,
    images: Mapping[str, tuple[Path, ...]],
    masks: Mapping[str, Path],
    declared: Declared,
    rules: LabelRules,
    problems: list[Problem],
) -> Dataset:
    """``empty``, of which root and layout count, with cases of label maps and their classes.

    Without names of classes the values are looked up in the maps; values that may be no classes become problems.
    """
    root = empty.root
    if not masks:
        raise UserError(f"{root} has no masks: every image needs a label map of the same name.")
    find_unpaired(root, images, masks, problems)
    cases = tuple(Case(name, images[name], ((masks[name],),)) for name in sorted(images.keys() & masks.keys()))
    ignored = declared.ignored if rules.ignore is None else rules.value
    if rules.foreground:
        return replace(empty, classes=(FOREGROUND,), cases=cases, ignored=ignored)
    values = declared.values or _named(_found_values(root, cases, rules, problems))
    ordered = sorted((value, name) for name, value in values.items() if value != ignored)
    for value, name in ordered:
        if value > _HIGHEST:
            problems.append(Problem("labels", f"{root} has a class {name!r} of value {value}: number them up to {_HIGHEST}."))
    names, numbers = tuple(name for _, name in ordered), tuple(value for value, _ in ordered)
    return replace(empty, classes=names, cases=cases, label_values=numbers, named=bool(declared.values), ignored=ignored)


def _named(values: Sequence[int]) -> dict[str, int]:
    """Values that nobody named, by their digits; masks of 0 and 255 are of one class, whose value says nothing."""
    return {FOREGROUND if list(values) == [_WHITE] else str(value): value for value in values}


def _found_values(root: Path, cases: Sequence[Case], rules: LabelRules, problems: list[Problem]) -> list[int]:
    def look(case: Case) -> Survey:
        try:
            return survey(case.masks[0][0])
        except UserError as error:
            problems.append(Problem(case.id, str(error)))
            return Survey()

    with ThreadPoolExecutor() as pool:
        surveys = list(pool.map(look, cases))
    found = sorted(set().union(*(one.values for one in surveys)))
    if len(found) > MOST:
        raise UserError(f"the label maps beside {cases[0].masks[0][0]} hold {len(found)} values: are they masks? {_MERGE}.")
    problems.sort(key=lambda problem: problem.where)  # threads finish in any order
    doubt, certain = class_doubt(surveys)
    if doubt:
        what = f"the label maps of {root} hold {len(found)} values, and {doubt}. {_NAME}, or {_MERGE}."
        problems.append(Problem("labels", what, fatal=certain, learning=True))
    if rules.ignore is None and (doubt := ignore_doubt(found)):
        problems.append(Problem("labels", f"in the label maps of {root} {doubt}."))
    return found


def read_json(path: Path) -> dict[str, Any]:
    """Content of a JSON file, empty unless it is a mapping. Raises ``UserError`` for a file that is not JSON."""
    try:
        content = read_any(path)
    except OSError:
        raise UserError(f"{path} does not exist or cannot be read.") from None
    return content if isinstance(content, dict) else {}
