"""Layouts with a description in JSON: nnU-Net raw folders and Decathlon datalists."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from allukan.data.channels import channel_names, file_patterns
from allukan.data.dataset import Dataset, GivenSplit
from allukan.data.decode import IMAGE_SUFFIXES, VOLUME_SUFFIXES
from allukan.data.given_splits import nnunet_splits, with_test
from allukan.data.listed_splits import Listed, labelled_entries, listed_split
from allukan.data.names import case_id, is_volume, not_read, odd_name, on_disk
from allukan.data.pairing import Declared, Problem, by_id, find_images, label_map_dataset, read_json
from allukan.data.unused import unused
from allukan.errors import UserError
from allukan.files import nfc
from allukan.options import LabelRules


def open_nnunet(root: Path, rules: LabelRules, problems: list[Problem]) -> Dataset:
    """nnU-Net raw: ``imagesTr/CASE_0000.png``, ``labelsTr/CASE.png``, names and values of the classes in ``dataset.json``."""
    info = read_json(root / "dataset.json")
    ending = str(info.get("file_ending", "")).lower()
    if ending and ending not in IMAGE_SUFFIXES | VOLUME_SUFFIXES:
        raise UserError(f"{root / 'dataset.json'} names file_ending {ending!r}, which is not read: convert to PNG or TIFF.")
    if not isinstance(info.get("labels"), dict):
        raise UserError(f"{root / 'dataset.json'} has no 'labels' mapping of names to values: add it as nnU-Net wants it.")
    declared = declared_labels(info, root / "dataset.json")
    masks = by_id(find_images(root / "labelsTr"), problems) if (root / "labelsTr").is_dir() else {}
    images, patterns = _by_channel(root / "imagesTr", problems)
    if ending in VOLUME_SUFFIXES and not all(is_volume(path) for files in images.values() for path in files):
        raise UserError(f"{root / 'dataset.json'} names file_ending {ending!r}, but {root / 'imagesTr'} holds pictures.")
    given = nnunet_splits(root, images)
    if (root / "imagesTs").is_dir():
        tests, truth, given = _labelled_tests(root, given, images, problems)
        images, masks = images | tests, masks | truth
    known = {root / name for name in ("imagesTr", "labelsTr", "imagesTs", "labelsTs")}
    given = replace(given, notes=given.notes + unused(root, known, ": it is no folder of nnU-Net"))
    dataset = Dataset(root, "nnunet", given=given, patterns=patterns, channel_names=channel_names(info))
    return label_map_dataset(dataset, images, masks, declared, rules, problems)


def _labelled_tests(
    root: Path, given: GivenSplit, training: Mapping[str, tuple[Path, ...]], problems: list[Problem]
) -> tuple[dict[str, tuple[Path, ...]], dict[str, Path], GivenSplit]:
    """Images of ``imagesTs`` with label maps in ``labelsTs``, these, and the split with them for test.

    Those with the name of a training image are called ``test/CASE``.
    """
    images, _ = _by_channel(root / "imagesTs", problems)
    masks = by_id(find_images(root / "labelsTs"), problems) if (root / "labelsTs").is_dir() else {}
    names = {name: f"test/{name}" if name in training else name for name in masks}
    paired = {new: images[name] for name, new in names.items() if name in images}
    given = with_test(given, training, paired, f"{root / 'labelsTs'}")
    if rest := len(images.keys() - masks.keys()):
        note = f"{rest} images of {root / 'imagesTs'} have no label map: they are not used."
        given = replace(given, notes=(*given.notes, note))
    return paired, {names[name]: path for name, path in masks.items()}, given


def _by_channel(folder: Path, problems: list[Problem]) -> tuple[dict[str, tuple[Path, ...]], tuple[str, ...]]:
    """Files of every case in the order of their four-digit channels, of which none may lack, and the patterns of their names."""
    found: dict[str, dict[str, Path]] = defaultdict(dict)
    for path in find_images(folder):
        match = re.fullmatch(r"(.+)_(\d{4})", case_id(path))
        if match is None or odd_name(path) or match[2] in found[match[1]]:
            sentence = "ends on no channel number as _0000" if match is None else "repeats a channel of its case"
            problems.append(Problem(case_id(path), odd_name(path) or f"{path} {sentence}: rename or remove it."))
            continue
        found[match[1]][match[2]] = path
    channels = sorted({channel for files in found.values() for channel in files})
    for name, files in sorted(found.items()):
        for channel in channels:
            if channel not in files:
                problems.append(Problem(name, f"image {name!r} of {folder} lacks channel {channel}, which others have: add it."))
    images = {name: tuple(files[channel] for channel in sorted(files)) for name, files in found.items()}
    return images, tuple(f"*_{channel}" for channel in channels)


def open_decathlon(path: Path, rules: LabelRules, problems: list[Problem]) -> Dataset:
    """A JSON datalist: ``{"training": [{"image": …, "label": …}], "labels": {"1": "name"}}``, paths relative to it."""
    info, images, masks = read_json(path), dict[str, tuple[Path, ...]](), dict[str, Path]()
    entries, notes = labelled_entries(info, path)
    found: dict[str, Listed] = {}
    for listed in entries:
        entry = listed.entry
        files = entry["image"] if isinstance(entry["image"], list) else [entry["image"]]
        paths = [on_disk(path.parent / str(file)) for file in (*files, entry["label"])]
        name = listed.prefix + case_id(paths[0])
        if name in images:
            problems.append(Problem(name, f"{path} names {name!r} twice in {listed.key!r}: every image needs a name of its own."))
            continue
        wrong = [sentence for file in paths if (sentence := _lacking(file, path))]
        problems += [Problem(name, sentence) for sentence in wrong]
        if not wrong:
            images[name], masks[name], found[name] = tuple(paths[:-1]), paths[-1], listed
    _same_number(path, images, problems)
    patterns = file_patterns(images, path, problems)
    if not images and problems:
        return Dataset(path.parent, "decathlon")
    given = listed_split(path, found, notes)
    dataset = Dataset(path.parent, "decathlon", given=given, patterns=patterns, channel_names=channel_names(info))
    return label_map_dataset(dataset, images, masks, declared_labels(info, path), rules, problems)


def _lacking(file: Path, path: Path) -> str:
    """Why a file of a datalist cannot be read; empty where it is there."""
    if file.is_file() or (file.is_dir() and is_volume(file)):
        return "" if is_volume(file) else not_read(file)
    gone = f"{path} names {file}, which does not exist: add it or remove the entry."
    return not_read(file, IMAGE_SUFFIXES | VOLUME_SUFFIXES) or gone


def _same_number(path: Path, images: Mapping[str, tuple[Path, ...]], problems: list[Problem]) -> None:
    most = max((len(files) for files in images.values()), default=0)
    for name, files in images.items():
        if len(files) != most:
            problems.append(Problem(name, f"{path} gives {name!r} {len(files)} image files, others {most}: add what is missing."))


def declared_labels(info: Mapping[str, Any], path: Path) -> Declared:
    """The "labels" of a ``dataset.json``: ``{"name": 1}`` as in nnU-Net 2, or ``{"1": "name"}`` as in the Decathlon.

    "ignore" is the label that counts nowhere. Raises ``UserError`` for regions, and for a name or value that stands twice.
    """
    values: dict[str, int] = {}
    labels = info.get("labels")
    for key, entry in labels.items() if isinstance(labels, dict) else ():
        name, value = (nfc(key), entry) if isinstance(entry, int) or not key.isdigit() else (nfc(str(entry)), key)
        if not str(value).isdigit():
            raise UserError(f"{path} has the label {name!r}: {value!r}, but regions of labels are not read: use one number.")
        if int(value) in values.values() or name in values:
            raise UserError(f"{path} gives the label {name!r}: {value} twice: every class needs a name and a number of its own.")
        values[name] = int(value)
    ignored = values.pop("ignore", None)
    if ignored == 0:
        raise UserError(f"{path} ignores the label 0, which is the background: give ignored pixels a number of their own.")
    return Declared({name: value for name, value in values.items() if value > 0}, ignored)
