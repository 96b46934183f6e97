"""Images and masks by name: what belongs together, and what stays alone."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from allukan.data.dataset import FOREGROUND, Case, Dataset, LabelRules
from allukan.data.images import IMAGE_SUFFIXES
from allukan.data.label_survey import MOST, Survey, class_doubt, ignore_doubt, survey
from allukan.errors import UserError

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


def find_images(folder: Path) -> list[Path]:
    """The image files of a folder, hidden ones left out, sorted. ``UserError`` where there are only NIfTI volumes."""
    files = [p for p in sorted(folder.iterdir()) if p.is_file() and not p.name.startswith(".")]
    found = [p for p in files if p.suffix.lower() in IMAGE_SUFFIXES]
    if not found:
        refuse_nifti(files)
    return found


def refuse_nifti(files: Iterable[Path]) -> None:
    """Raises ``UserError`` for the first name of a NIfTI volume."""
    for path in files:
        if path.name.lower().endswith((".nii", ".nii.gz")):
            raise UserError(f"{path} is a NIfTI volume, and 3D NIfTI is not read yet: save its slices as PNG or TIFF.")


def by_id(paths: Sequence[Path], problems: list[Problem]) -> dict[str, Path]:
    """Files by their name without suffix, which must be unique."""
    found: dict[str, Path] = {}
    for path in paths:
        if path.stem in found:
            sentence = f"{path} and {found[path.stem].name} have the same name: keep one of them."
            problems.append(Problem(path.stem, sentence))
        found.setdefault(path.stem, path)
    return found


def find_unpaired(root: Path, images: Iterable[str], masks: Iterable[str], problems: list[Problem]) -> None:
    """Note every image without mask and every mask without image."""
    have, known = set(images), set(masks)
    for name in sorted(have - known):
        problems.append(Problem(name, f"image {name!r} of {root} has no mask: add the mask or remove the image."))
    for name in sorted(known - have):
        problems.append(Problem(name, f"mask {name!r} of {root} has no image: add the image or remove the mask."))


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
    values = declared.values or {str(value): value for value in _found_values(root, cases, rules, problems)}
    ordered = sorted((value, name) for name, value in values.items() if value != ignored)
    for value, name in ordered:
        if value > _HIGHEST:
            problems.append(Problem(str(root), f"{root} has a class {name!r} of value {value}: number them up to {_HIGHEST}."))
    names, numbers = tuple(name for _, name in ordered), tuple(value for value, _ in ordered)
    return replace(empty, classes=names, cases=cases, label_values=numbers, named=bool(declared.values), ignored=ignored)


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
        what = f"the label maps hold {len(found)} values, and {doubt}. {_NAME}, or {_MERGE}."
        problems.append(Problem(str(root), what, fatal=certain, learning=True))
    if rules.ignore is None and (doubt := ignore_doubt(found)):
        problems.append(Problem(str(root), f"{root}: {doubt}."))
    return found


def read_json(path: Path) -> dict[str, Any]:
    """Content of a JSON file, empty unless it is a mapping. Raises ``UserError`` for a file that is not JSON."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError:
        raise UserError(f"{path} does not exist or cannot be read.") from None
    except ValueError as error:
        raise UserError(f"{path} is not valid JSON ({error}).") from None
    return content if isinstance(content, dict) else {}
