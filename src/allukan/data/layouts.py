"""The layouts of a dataset on disk, recognised by themselves."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from itertools import chain
from pathlib import Path

from allukan.data.case_folders import CaseFolders, case_folders
from allukan.data.dataset import FOREGROUND, Case, Dataset, GivenSplit
from allukan.data.decode import IMAGE_SUFFIXES, VOLUME_SUFFIXES
from allukan.data.downloads import Beside, beside, patients, without_series
from allukan.data.listed import declared_labels, open_decathlon, open_nnunet
from allukan.data.mask_folders import MaskFolders, mask_folders
from allukan.data.names import has_frames, is_data, is_slice, is_volume, notes, on_disk, visible
from allukan.data.pairing import (
    Declared,
    Problem,
    by_id,
    find_images,
    find_unpaired,
    label_map_dataset,
    masks_by_id,
    read_json,
)
from allukan.data.pairs import Pair, pair_of, two_folders
from allukan.data.part_folders import Part, open_parts, overlooked, paired_parts, part_folders, parts_within, split_of
from allukan.errors import UserError
from allukan.files import name_text
from allukan.options import LabelRules

AS_IS = LabelRules()
_log = logging.getLogger("allukan")
_FOLDERS = {name.lower(): name for name in ("images", "imagesTr")}
_HOW = (
    "expected are images/ and masks/ (or train/, val/ and test/ of them), a_mask.png beside a.png, a folder an image with its "
    "files and its mask, an nnU-Net raw folder, or a JSON datalist with a 'training' list"
)


def open_dataset(root: str | Path, rules: LabelRules = AS_IS, *, learn: bool = True) -> Dataset:
    """Recognise the layout of ``root`` (or of the JSON datalist that it is) and list its cases.

    Files that are left out are named in the log. ``rules`` say how labels are read. Without ``learn`` label maps may all be
    empty, and it does not matter whether their values are plausible as classes. Raises ``UserError`` for a missing or empty
    folder, an unknown layout, images and masks that do not pair up, and values that are certainly no classes.
    """
    dataset, problems = scan_dataset(root, rules, learn=learn)
    problems = [problem for problem in problems if problem.fatal and (learn or not problem.learning)]
    if problems:
        more = f" ({len(problems) - 1} more problems: `allukan data check` lists them)" if len(problems) > 1 else ""
        raise UserError(problems[0].what + more)
    for _, sentence in notes(dataset):
        _log.warning(sentence)
    return dataset


def scan_dataset(root: str | Path, rules: LabelRules = AS_IS, *, learn: bool = True) -> tuple[Dataset, list[Problem]]:
    """Like ``open_dataset``, but lists every problem and leaves the images and masks concerned out.

    Raises ``UserError`` only where there is no dataset to look at.
    """
    problems: list[Problem] = []
    dataset = _of_one_kind(_recognised(on_disk(Path(root)), rules, problems), problems)
    if not dataset.cases and not problems:
        raise UserError(f"{dataset.root} has no image with a mask of the same name.")
    if learn and not dataset.classes and not problems:
        raise UserError(f"every mask of {dataset.root} is empty: nothing can be learned.")
    return dataset, problems


def _of_one_kind(dataset: Dataset, problems: list[Problem]) -> Dataset:
    """With the dimensions of its images; a set of pictures and volumes is a problem.

    Files of DICOM are what the others are; a set of them alone is of pictures unless one has many frames.
    """
    files = [path for case in dataset.cases for path in (*case.images, *chain(*case.masks))]
    slices = [path for path in files if is_slice(path)]
    volumes, pictures = ([path for path in files if is_volume(path) == kind and path not in slices] for kind in (True, False))
    if volumes and pictures:
        both = f"{dataset.root} holds volumes, as {volumes[0]}, and pictures, as {pictures[0]}"
        problems.append(Problem(str(dataset.root), f"{both}: keep files of one kind."))
    deep = volumes or (slices and not pictures and any(has_frames(path) for path in slices))
    return replace(dataset, spatial_dims=3) if deep else dataset


def _recognised(root: Path, rules: LabelRules, problems: list[Problem]) -> Dataset:
    if not root.exists():
        raise UserError(f"{root} does not exist: give the folder of a dataset; {_HOW}.")
    if root.is_file() and (is_volume(root) or root.suffix.lower() in IMAGE_SUFFIXES):
        raise UserError(f"{root} is an image: give the folder of a dataset; {_HOW}.")
    return open_decathlon(root, rules, problems) if root.is_file() else _folder(root, rules, problems)


def _folder(root: Path, rules: LabelRules, problems: list[Problem]) -> Dataset:
    if pair := pair_of(root):
        if parts := parts_within(root, pair):
            return _parts(root, parts, rules, problems)
        given = overlooked(root, pair.images)
        return replace(_plain(root, pair, rules, problems), given=replace(given, notes=pair.notes + given.notes))
    if any(is_data(path) for path in root.glob("imagesTr/*_0000.*")):
        return open_nnunet(root, rules, problems)
    lists = [path for path in visible(root) if path.suffix == ".json" and "training" in read_json(path)]
    if len(lists) == 1:
        return open_decathlon(lists[0], rules, problems)
    if len(lists) > 1:
        raise UserError(f"{root} holds {len(lists)} JSON datalists: give one of them, as {lists[0]}.")
    if (root / "imagesTr").is_dir():
        return _without_channels(root, rules, problems)
    return _downloaded(root, rules, problems)


def _downloaded(root: Path, rules: LabelRules, problems: list[Problem]) -> Dataset:
    """What is told by the names of folders and files."""
    if parts := part_folders(root) or paired_parts(root):
        return _parts(root, parts, rules, problems)
    if pair := two_folders(root):
        return _plain(root, pair, rules, problems)
    if folders := mask_folders(root, problems):
        return _mask_folders(root, folders, rules)
    if cases := case_folders(root, problems):
        return _case_folders(root, cases, rules, problems)
    if (found := beside(root, problems)).images:
        return _beside(root, found, rules, problems)
    raise UserError(_unknown(root))


def _without_channels(root: Path, rules: LabelRules, problems: list[Problem]) -> Dataset:
    """Folders of the Decathlon whose list is lost, which say all but the names of the classes."""
    if (root / "dataset.json").is_file() or not (root / "labelsTr").is_dir():
        return open_nnunet(root, rules, problems)
    return _plain(root, Pair(root / "imagesTr", root / "labelsTr"), rules, problems)


def _parts(root: Path, parts: Mapping[str, Part], rules: LabelRules, problems: list[Problem]) -> Dataset:
    return open_parts(root, parts, lambda part: _plain(part.root, part.pair, rules, problems, root))


def _unknown(root: Path) -> str:
    folders = [path for path in visible(root) if path.is_dir()]
    for path in folders:
        wanted = _FOLDERS.get(path.name.lower(), path.name)
        if wanted != path.name:
            return f"{path} is spelled otherwise than expected: rename it to {wanted}."
    if inner := [path for path in folders if pair_of(path) or part_folders(path) or mask_folders(path, [])]:
        return f"{root} holds {len(inner)} dataset{'s: give one of them, as' * (len(inner) > 1) or ': give'} {inner[0]}."
    return f"{root} is empty: {_HOW}." if not visible(root) else f"{root} holds no dataset that is recognised: {_HOW}."


def _plain(root: Path, pair: Pair, rules: LabelRules, problems: list[Problem], described: Path | None = None) -> Dataset:
    """``images/`` with ``masks/CLASS/`` (binary, a folder a class) or ``masks/`` (label maps), or what stands for them.

    Names of classes of label maps stand in ``dataset.json`` there or in the folder ``described``.
    """
    images, masks = by_id(find_images(pair.images, series=True), problems), pair.masks
    if not images:
        raise UserError(f"{pair.images} holds no images: known are {', '.join(sorted(IMAGE_SUFFIXES | VOLUME_SUFFIXES))}.")
    if not masks.is_dir():
        raise UserError(_without_masks(root))
    folders = [path for path in visible(masks) if path.is_dir()]
    if not folders:
        maps = {name: paths[0] for name, paths in masks_by_id(find_images(masks), images, problems, several=False).items()}
        return _label_maps(root, images, maps, described or root, rules, problems)
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


def _case_folders(root: Path, found: CaseFolders, rules: LabelRules, problems: list[Problem]) -> Dataset:
    given = replace(split_of(root, {name: files[0] for name, files in found.images.items()}), notes=found.notes)
    empty = Dataset(root, "label-maps", given=given, patterns=found.patterns, channel_names=found.channels)
    return label_map_dataset(empty, found.images, found.masks, _declared(root), rules, problems)


def _mask_folders(root: Path, found: MaskFolders, rules: LabelRules) -> Dataset:
    """A file a class, or several files of one class."""
    classes = () if rules.foreground else found.classes
    cases = []
    for name, image in found.images.items():
        files = found.masks[name]
        masks = tuple((files[one],) for one in classes) or (tuple(files.values()),)
        cases.append(Case(name, (image,), masks))
    pattern, given = found.pattern, GivenSplit(notes=found.notes)
    return Dataset(root, "folders", classes or (FOREGROUND,), tuple(cases), ignored=rules.value, given=given, patterns=(pattern,))


def _beside(root: Path, found: Beside, rules: LabelRules, problems: list[Problem]) -> Dataset:
    """Label maps, or where an image has several masks binary ones that are united."""
    found, series = without_series(found)
    groups, note = patients(found)
    given = replace(split_of(root, found.images), notes=series + note)
    return replace(_united(root, found, rules, problems), groups=groups, given=given)


def _united(root: Path, found: Beside, rules: LabelRules, problems: list[Problem]) -> Dataset:
    if all(len(files) == 1 for files in found.masks.values()):
        return _label_maps(root, found.images, {name: files[0] for name, files in found.masks.items()}, root, rules, problems)
    find_unpaired(root, found.images, found.masks, problems)
    complete = sorted(found.images.keys() & found.masks.keys())
    cases = tuple(Case(name, (found.images[name],), (found.masks[name],)) for name in complete)
    return Dataset(root, "folders", (FOREGROUND,), cases, ignored=rules.value)


def _without_masks(root: Path) -> str:
    others = [path for path in visible(root) if path.is_dir() and path.name != "images" and find_images(path)]
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
