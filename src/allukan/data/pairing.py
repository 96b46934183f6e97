"""Images and masks by name: what belongs together, and what stays alone."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from allukan.data.dataset import Case, Dataset
from allukan.data.images import IMAGE_SUFFIXES
from allukan.data.masks import label_values
from allukan.errors import UserError


@dataclass(frozen=True)
class Problem:
    """One thing that keeps a dataset from being used: an id or a path, and a sentence."""

    where: str
    what: str


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


def label_map_dataset(
    root: Path,
    layout: str,
    images: Mapping[str, tuple[Path, ...]],
    masks: Mapping[str, Path],
    values: Mapping[str, int],
    problems: list[Problem],
) -> Dataset:
    """A dataset of label maps; without names of classes the values are looked up in the maps."""
    if not masks:
        raise UserError(f"{root} has no masks: every image needs a label map of the same name.")
    find_unpaired(root, images, masks, problems)
    cases = tuple(Case(name, images[name], ((masks[name],),)) for name in sorted(images.keys() & masks.keys()))
    if not values:
        values = {str(value): value for value in _found_values(cases, problems)}
    ordered = sorted(values.items(), key=lambda item: item[1])
    return Dataset(root, layout, tuple(name for name, _ in ordered), cases, tuple(value for _, value in ordered))


def _found_values(cases: Sequence[Case], problems: list[Problem]) -> list[int]:
    def look(case: Case) -> set[int]:
        try:
            return label_values(case.masks[0][0])
        except UserError as error:
            problems.append(Problem(case.id, str(error)))
            return set()

    with ThreadPoolExecutor() as pool:
        found = set().union(*pool.map(look, cases))
    if len(found) > 64:
        raise UserError(f"the label maps beside {cases[0].masks[0][0]} hold {len(found)} values: are they masks?")
    problems.sort(key=lambda problem: problem.where)  # threads finish in any order
    return sorted(found)


def read_json(path: Path) -> dict[str, Any]:
    """Content of a JSON file, empty unless it is a mapping. Raises ``UserError`` for a file that is not JSON."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError:
        raise UserError(f"{path} does not exist or cannot be read.") from None
    except ValueError as error:
        raise UserError(f"{path} is not valid JSON ({error}).") from None
    return content if isinstance(content, dict) else {}
