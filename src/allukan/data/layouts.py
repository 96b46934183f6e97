"""The four layouts of a dataset on disk, recognised by themselves."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import replace
from itertools import chain
from pathlib import Path

from allukan.data.dataset import FOREGROUND, Case, Dataset, LabelRules
from allukan.data.images import IMAGE_SUFFIXES
from allukan.data.listed import declared_labels, open_decathlon, open_nnunet
from allukan.data.pairing import Declared, Problem, by_id, find_images, find_unpaired, label_map_dataset, read_json
from allukan.errors import UserError

AS_IS = LabelRules()
_HOW = "expected are images/ and masks/, an nnU-Net raw folder, or a JSON datalist with a 'training' list"


def open_dataset(root: str | Path, rules: LabelRules = AS_IS, *, learn: bool = True) -> Dataset:
    """Recognise the layout of ``root`` (or of the JSON datalist that it is) and list its cases.

    ``rules`` say how labels are read. Without ``learn`` label maps may all be empty, and it does not matter whether their values
    are plausible as classes. Raises ``UserError`` for a missing or empty folder, an unknown layout, images and masks that do
    not pair up, and values that are certainly no classes.
    """
    dataset, problems = scan_dataset(root, rules, learn=learn)
    problems = [problem for problem in problems if problem.fatal and (learn or not problem.learning)]
    if problems:
        more = f" ({len(problems) - 1} more problems: `allukan data check` lists them)" if len(problems) > 1 else ""
        raise UserError(problems[0].what + more)
    return dataset


def scan_dataset(root: str | Path, rules: LabelRules = AS_IS, *, learn: bool = True) -> tuple[Dataset, list[Problem]]:
    """Like ``open_dataset``, but lists every problem and leaves the images and masks concerned out.

    Raises ``UserError`` only where there is no dataset to look at.
    """
    problems: list[Problem] = []
    dataset = _recognised(Path(root), rules, problems)
    if not dataset.cases and not problems:
        raise UserError(f"{dataset.root} has no image with a mask of the same name.")
    if learn and not dataset.classes and not problems:
        raise UserError(f"every mask of {dataset.root} is empty: nothing can be learned.")
    return dataset, problems


def _recognised(root: Path, rules: LabelRules, problems: list[Problem]) -> Dataset:
    if not root.exists():
        raise UserError(f"{root} does not exist: give the folder of a dataset; {_HOW}.")
    if root.is_file():
        return open_decathlon(root, rules, problems)
    if (root / "images").is_dir():
        return _plain(root, rules, problems)
    if any(root.glob("imagesTr/*_0000.*")):
        return open_nnunet(root, rules, problems)
    lists = [path for path in sorted(root.glob("*.json")) if "training" in read_json(path)]
    if len(lists) == 1:
        return open_decathlon(lists[0], rules, problems)
    if len(lists) > 1:
        raise UserError(f"{root} holds {len(lists)} JSON datalists: give one of them, as {lists[0]}.")
    if (root / "imagesTr").is_dir():
        return open_nnunet(root, rules, problems)
    if not any(root.iterdir()):
        raise UserError(f"{root} is empty: {_HOW}.")
    raise UserError(f"{root} holds no dataset that is recognised: {_HOW}.")


def _plain(root: Path, rules: LabelRules, problems: list[Problem]) -> Dataset:
    """``images/`` with ``masks/CLASS/`` (binary, a folder a class) or ``masks/`` (label maps; names in ``dataset.json``)."""
    images, masks = by_id(find_images(root / "images"), problems), root / "masks"
    if not images:
        raise UserError(f"{root / 'images'} holds no images: known are {', '.join(sorted(IMAGE_SUFFIXES))}.")
    if not masks.is_dir():
        raise UserError(f"{root} has no masks: put them into masks/0/ (binary, a folder a class) or masks/ (label maps).")
    folders = sorted(p for p in masks.iterdir() if p.is_dir() and not p.name.startswith("."))
    if not folders:
        maps = by_id(find_images(masks), problems)
        info = root / "dataset.json"
        declared = declared_labels(read_json(info), info) if info.is_file() else Declared()
        files = {name: (path,) for name, path in images.items()}
        return label_map_dataset(Dataset(root, "label-maps"), files, maps, declared, rules, problems)
    if find_images(masks):
        raise UserError(f"{masks} holds both class folders and mask files: keep one of the two layouts.")
    return _class_folders(root, images, folders, rules, problems)


def _class_folders(
    root: Path, images: Mapping[str, Path], folders: list[Path], rules: LabelRules, problems: list[Problem]
) -> Dataset:
    classes = [_masks_by_id(folder, images, problems) for folder in folders]
    known = {name for found in classes for name in found}
    find_unpaired(root, images, known, problems)
    for name in sorted(images.keys() & known):
        for folder, found in zip(folders, classes, strict=True):
            if name not in found:
                sentence = f"image {images[name]} has no mask in {folder}: add an empty mask or remove the image."
                problems.append(Problem(name, sentence))
    complete = [name for name in sorted(images) if all(name in found for found in classes)]
    cases = tuple(Case(name, (images[name],), tuple(found[name] for found in classes)) for name in complete)
    if rules.foreground:
        cases = tuple(replace(case, masks=(tuple(chain(*case.masks)),)) for case in cases)
        return Dataset(root, "folders", (FOREGROUND,), cases, ignored=rules.value)
    return Dataset(root, "folders", tuple(folder.name for folder in folders), cases, ignored=rules.value)


def _masks_by_id(folder: Path, images: Mapping[str, Path], problems: list[Problem]) -> dict[str, tuple[Path, ...]]:
    """``ID.png``, and the masks ``ID_mask.png``, ``ID_mask_1.png`` … of BUSI."""
    found: dict[str, list[Path]] = defaultdict(list)
    for stem, path in by_id(find_images(folder), problems).items():
        found[stem if stem in images else re.sub(r"_mask(_\d+)?$", "", stem)].append(path)
    return {name: tuple(paths) for name, paths in found.items()}
