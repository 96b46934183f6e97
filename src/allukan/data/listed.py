"""Layouts with a description in JSON: nnU-Net raw folders and Decathlon datalists."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from allukan.data.dataset import Dataset
from allukan.data.images import IMAGE_SUFFIXES
from allukan.data.names import case_id, not_read, odd_name, on_disk
from allukan.data.pairing import Problem, by_id, find_images, label_map_dataset, read_json, refuse_nifti
from allukan.errors import UserError
from allukan.files import nfc


def open_nnunet(root: Path, problems: list[Problem]) -> Dataset:
    """nnU-Net raw: ``imagesTr/CASE_0000.png``, ``labelsTr/CASE.png``, names and values of the classes in ``dataset.json``."""
    info = read_json(root / "dataset.json")
    ending = str(info.get("file_ending", "")).lower()
    refuse_nifti([root / "imagesTr" / f"*{ending}"])
    if ending and ending not in IMAGE_SUFFIXES:
        raise UserError(f"{root / 'dataset.json'} names file_ending {ending!r}, which is not read: convert to PNG or TIFF.")
    if not isinstance(info.get("labels"), dict):
        raise UserError(f"{root / 'dataset.json'} has no 'labels' mapping of names to values: add it as nnU-Net wants it.")
    values = _class_values(info["labels"], root / "dataset.json")
    masks = by_id(find_images(root / "labelsTr"), problems) if (root / "labelsTr").is_dir() else {}
    return label_map_dataset(root, "nnunet", _by_channel(root / "imagesTr", problems), masks, values, problems)


def _by_channel(folder: Path, problems: list[Problem]) -> dict[str, tuple[Path, ...]]:
    """Files of every case in the order of their four-digit channels, of which none may lack."""
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
    return {name: tuple(files[channel] for channel in sorted(files)) for name, files in found.items()}


def open_decathlon(path: Path, problems: list[Problem]) -> Dataset:
    """A JSON datalist: ``{"training": [{"image": …, "label": …}], "labels": {"1": "name"}}``, paths relative to it."""
    info, images, masks = read_json(path), dict[str, tuple[Path, ...]](), dict[str, Path]()
    entries = info.get("training")
    if not isinstance(entries, list) or not all(isinstance(e, dict) and "image" in e and "label" in e for e in entries):
        raise UserError(f"{path} has no 'training' list of {{'image': …, 'label': …}} entries.")
    for entry in entries:
        files = entry["image"] if isinstance(entry["image"], list) else [entry["image"]]
        paths = [on_disk(path.parent / str(file)) for file in (*files, entry["label"])]
        refuse_nifti(paths)
        name = case_id(paths[0])
        if name in images:
            problems.append(Problem(name, f"{path} names {name!r} twice in 'training': every image needs a name of its own."))
            continue
        gone = {file: f"{path} names {file}, which does not exist: add it or remove the entry." for file in paths}
        wrong = [not_read(file) or gone[file] for file in paths if not_read(file) or not file.is_file()]
        problems += [Problem(name, sentence) for sentence in wrong]
        if not wrong:
            images[name], masks[name] = tuple(paths[:-1]), paths[-1]
    _same_number(path, images, problems)
    if not images and problems:
        return Dataset(path.parent, "decathlon", (), ())
    values = _class_values(info["labels"], path) if isinstance(info.get("labels"), dict) else {}
    return label_map_dataset(path.parent, "decathlon", images, masks, values, problems)


def _same_number(path: Path, images: Mapping[str, tuple[Path, ...]], problems: list[Problem]) -> None:
    most = max((len(files) for files in images.values()), default=0)
    for name, files in images.items():
        if len(files) != most:
            problems.append(Problem(name, f"{path} gives {name!r} {len(files)} image files, others {most}: add what is missing."))


def _class_values(labels: Mapping[str, Any], path: Path) -> dict[str, int]:
    """Values of the foreground classes by name: ``{"name": 1}`` as in nnU-Net 2, or ``{"1": "name"}`` as in the Decathlon."""
    values: dict[str, int] = {}
    for key, entry in labels.items():
        name, value = (nfc(key), entry) if isinstance(entry, int) or not key.isdigit() else (nfc(str(entry)), key)
        if not str(value).isdigit() or name == "ignore":
            raise UserError(
                f"{path} has the label {name!r}: {value!r}, but regions and ignored labels are not read: use one number."
            )
        if int(value) in values.values() or name in values:
            raise UserError(f"{path} gives the label {name!r}: {value} twice: every class needs a name and a number of its own.")
        values[name] = int(value)
    return {name: value for name, value in values.items() if value > 0}
