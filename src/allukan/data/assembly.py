"""The files that a layout found, as a dataset: label maps, a folder or a file a class, or masks that are united."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from itertools import chain
from pathlib import Path

from allukan.data.case_folders import CaseFolders
from allukan.data.dataset import FOREGROUND, Case, Dataset, GivenSplit
from allukan.data.decode import IMAGE_SUFFIXES, VOLUME_SUFFIXES
from allukan.data.downloads import Beside, patients, without_series
from allukan.data.given_splits import part_named
from allukan.data.listed import declared_labels
from allukan.data.mask_folders import MaskFolders
from allukan.data.names import visible
from allukan.data.pairing import Declared, Problem, by_id, find_images, find_unpaired, label_map_dataset, masks_by_id, read_json
from allukan.data.pairs import Pair
from allukan.data.part_folders import split_of
from allukan.errors import UserError
from allukan.files import name_text
from allukan.options import LabelRules


def plain(root: Path, pair: Pair, rules: LabelRules, problems: list[Problem], described: Path | None = None) -> Dataset:
    """``images/`` with ``masks/CLASS/`` (binary, a folder a class) or ``masks/`` (label maps), or what stands for them.

    Names of classes of label maps stand in ``dataset.json`` there or in the folder ``described``.
    """
    images, masks = by_id(find_images(pair.images, series=True), problems), pair.masks
    if not images:
        raise UserError(_without_images(pair.images))
    if not masks.is_dir():
        raise UserError(_without_masks(root, pair))
    folders = [path for path in visible(masks) if path.is_dir()]
    if not folders:
        maps = {name: paths[0] for name, paths in masks_by_id(find_images(masks), images, problems, several=False).items()}
        return _label_maps(root, images, maps, described or root, rules, problems)
    if parts := [path for path in folders if part_named(path.name)]:
        raise UserError(f"{parts[0]} is called as a part of a split, and {pair.images} has none: make them alike.")
    if find_images(masks):
        raise UserError(f"{masks} holds both class folders and mask files: keep one of the two layouts.")
    return _class_folders(root, images, folders, rules, problems)


def _label_maps(
    root: Path, images: Mapping[str, Path], maps: Mapping[str, Path], described: Path, rules: LabelRules, problems: list[Problem]
) -> Dataset:
    declared = _declared(root if (root / "dataset.json").is_file() else described)
    files = {name: (path,) for name, path in images.items()}
    return label_map_dataset(Dataset(root, "label-maps"), files, maps, declared, rules, problems)


def _declared(folder: Path) -> Declared:
    info = folder / "dataset.json"
    return declared_labels(read_json(info), info) if info.is_file() else Declared()


def of_case_folders(root: Path, found: CaseFolders, rules: LabelRules, problems: list[Problem]) -> Dataset:
    """A label map an image."""
    given = split_of(root, {name: files[0] for name, files in found.images.items()})
    given = replace(given, notes=found.notes + given.notes)
    empty = Dataset(root, "label-maps", given=given, groups=found.groups, patterns=found.patterns, channel_names=found.channels)
    return label_map_dataset(empty, found.images, found.masks, _declared(root), rules, problems)


def of_mask_folders(root: Path, found: MaskFolders, rules: LabelRules, problems: list[Problem]) -> Dataset:
    """A file a class, several files of one class, or one label map an image."""
    given = GivenSplit(notes=found.notes)
    if not found.classes and all(len(files) == 1 for files in found.masks.values()):
        images = {name: (path,) for name, path in found.images.items()}
        maps = {name: next(iter(files.values())) for name, files in found.masks.items()}
        empty = Dataset(root, "label-maps", given=given, patterns=(found.pattern,))
        return label_map_dataset(empty, images, maps, _declared(root), rules, problems)
    cases = []
    for name, image in found.images.items():
        files = found.masks[name]
        masks = tuple((files[one],) for one in found.classes) or (tuple(files.values()),)
        cases.append(Case(name, (image,), masks))
    classes = found.classes or (FOREGROUND,)
    return Dataset(root, "folders", classes, tuple(cases), ignored=rules.value, given=given, patterns=(found.pattern,))


def of_beside(root: Path, found: Beside, rules: LabelRules, problems: list[Problem]) -> Dataset:
    """Label maps, or where an image has several masks binary ones that are united."""
    found, series = without_series(found)
    groups, note = patients(found)
    dataset, given = _united(root, found, rules, problems), split_of(root, found.images)
    return replace(dataset, groups=groups, given=replace(given, notes=series + note + given.notes + dataset.given.notes))


def _united(root: Path, found: Beside, rules: LabelRules, problems: list[Problem]) -> Dataset:
    if all(len(files) == 1 for files in found.masks.values()):
        return _label_maps(root, found.images, {name: files[0] for name, files in found.masks.items()}, root, rules, problems)
    find_unpaired(root, found.images, found.masks, problems)
    complete = sorted(found.images.keys() & found.masks.keys())
    cases = tuple(Case(name, (found.images[name],), (found.masks[name],)) for name in complete)
    return Dataset(root, "folders", (FOREGROUND,), cases, ignored=rules.value, given=GivenSplit(notes=_note_united(found.masks)))


def _note_united(masks: Mapping[str, Collection[Path]]) -> tuple[str, ...]:
    several = [name for name, files in masks.items() if len(files) > 1]
    what = f"{len(several)} of the images, as {several[0]!r}, have several masks, which are united to one class"
    return (f"{what} (if they are classes: put them into masks/CLASS/).",)


def _without_images(folder: Path) -> str:
    inner = [path for path in visible(folder) if path.is_dir() and find_images(path)]
    known = f"known are {', '.join(sorted(IMAGE_SUFFIXES | VOLUME_SUFFIXES))}"
    return f"{folder} holds no images{f', but {inner[0]} does: move them up, with names that differ' if inner else f': {known}'}."


def _without_masks(root: Path, pair: Pair) -> str:
    if pair.masks.parent != root:
        return f"{pair.images} has no masks: expected are {pair.masks}, or leave its images out."
    others = [path for path in visible(root) if path.is_dir() and path != pair.images and find_images(path)]
    if len(others) == 1:
        return f"{root} has no masks: if {others[0]} holds them, rename it to masks."
    return f"{root} has no masks: put them into masks/0/ (binary, a folder a class) or masks/ (label maps)."


def _class_folders(
    root: Path, images: Mapping[str, Path], folders: list[Path], rules: LabelRules, problems: list[Problem]
) -> Dataset:
    names = _class_names(folders)
    classes = [masks_by_id(find_images(folder), images, problems, several=True) for folder in folders]
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
    return Dataset(root, "folders", names, cases, ignored=rules.value)


def _class_names(folders: list[Path]) -> tuple[str, ...]:
    names: list[str] = []
    for folder in folders:
        name = name_text(folder.name)
        if name is None or not name.isprintable():
            raise UserError(f"the name {folder.name!r} in {folder.parent} cannot be that of a class: use UTF-8 text in one line.")
        if name in names:
            raise UserError(f"{folder} and another class folder differ only in the Unicode form of their names: join them.")
        names.append(name)
    return tuple(names)
