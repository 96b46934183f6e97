"""Images and masks by name: what belongs together, and what stays alone."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Container, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from allukan.data.dataset import Case, Dataset
from allukan.data.masks import label_values
from allukan.data.names import case_id, is_image, mask_owner, not_read, odd_name, search, unread, visible
from allukan.errors import UserError
from allukan.files import read_json as read_any


@dataclass(frozen=True)
class Problem:
    """One thing that keeps a dataset from being used: an id or a path, and a sentence."""

    where: str
    what: str


def find_images(folder: Path) -> list[Path]:
    """The image files of a folder, sorted, without hidden and system ones. ``UserError`` where all are in formats not read."""
    files = [path for path in visible(folder) if not path.is_dir()]
    found = [path for path in files if is_image(path)]
    if not found:
        refuse_nifti(files)
        for sentence in unread(files):
            raise UserError(sentence)
    return found


def refuse_nifti(files: Iterable[Path]) -> None:
    """Raises ``UserError`` for the first name of a NIfTI volume."""
    for path in files:
        if path.name.lower().endswith((".nii", ".nii.gz")):
            raise UserError(f"{path} is a NIfTI volume, and 3D NIfTI is not read yet: save its slices as PNG or TIFF.")


def by_id(paths: Sequence[Path], problems: list[Problem]) -> dict[str, Path]:
    """Files by their name without suffix (NFC), which must be unique and text."""
    found: dict[str, Path] = {}
    for path in paths:
        name = case_id(path)
        if sentence := odd_name(path):
            problems.append(Problem(name, sentence))
        if name in found:
            same = "have the same name" if path.stem == found[name].stem else "differ only in the Unicode form of their names"
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
        owner, word, number = mask_owner(name, images)
        found[owner if several or not number else name][word].append(path)
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
    for path in search(root):
        if sentence := not_read(path):
            beside_images = path.relative_to(root).parts[0].startswith("images")
            found[0 if beside_images else 1][mask_owner(case_id(path), ids)[0]] = sentence
    return found


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
        content = read_any(path)
    except OSError:
        raise UserError(f"{path} does not exist or cannot be read.") from None
    return content if isinstance(content, dict) else {}
