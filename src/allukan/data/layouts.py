"""The four layouts of a dataset on disk, recognised by themselves."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from allukan.data.dataset import Case, Dataset
from allukan.data.images import IMAGE_SUFFIXES, label_values
from allukan.errors import UserError

_HOW = "expected are images/ and masks/, an nnU-Net raw folder, or a JSON datalist with a 'training' list"


def open_dataset(root: str | Path, *, strict: bool = True) -> Dataset:
    """Recognise the layout of ``root`` (or of the JSON datalist that it is) and list its cases.

    With ``strict=False`` images without mask and masks without image are left out instead of refused.
    Raises ``UserError`` for a missing or empty folder, an unknown layout, and images and masks that do not pair up.
    """
    root = Path(root)
    if not root.exists():
        raise UserError(f"{root} does not exist: give the folder of a dataset; {_HOW}.")
    if root.is_file():
        return _decathlon(root, strict)
    if (root / "imagesTr").is_dir():
        return _nnunet(root, strict)
    if (root / "images").is_dir():
        return _plain(root, strict)
    lists = [path for path in sorted(root.glob("*.json")) if "training" in _json(path)]
    if len(lists) == 1:
        return _decathlon(lists[0], strict)
    if not any(root.iterdir()):
        raise UserError(f"{root} is empty: {_HOW}.")
    raise UserError(f"{root} holds no dataset that is recognised: {_HOW}.")


def find_images(folder: Path) -> list[Path]:
    """The image files of a folder, hidden ones left out, sorted."""
    return sorted(
        p for p in folder.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES and not p.name.startswith(".") and p.is_file()
    )


def _plain(root: Path, strict: bool) -> Dataset:
    """``images/`` with ``masks/CLASS/`` (binary, a folder a class) or ``masks/`` (label maps)."""
    images, masks = _by_id(find_images(root / "images")), root / "masks"
    if not images:
        raise UserError(f"{root / 'images'} holds no images: known are {', '.join(sorted(IMAGE_SUFFIXES))}.")
    if not masks.is_dir():
        raise UserError(f"{root} has no masks: put them into masks/0/ (binary, a folder a class) or masks/ (label maps).")
    folders = sorted(p for p in masks.iterdir() if p.is_dir() and not p.name.startswith("."))
    if not folders:
        maps = {name: (path,) for name, path in _by_id(find_images(masks)).items()}
        return _labelled(root, "label-maps", images, maps, {}, strict)
    if find_images(masks):
        raise UserError(f"{masks} holds both class folders and mask files: keep one of the two layouts.")
    classes = [_masks_by_id(folder, images) for folder in folders]
    _paired(root, images, {name for found in classes for name in found}, strict)
    cases = tuple(
        Case(name, (images[name],), tuple(tuple(found.get(name, ())) for found in classes))
        for name in sorted(images)
        if all(name in found for found in classes)
    )
    incomplete = [(name, f) for name in sorted(images) for f, found in zip(folders, classes, strict=True) if name not in found]
    if incomplete and strict:
        name, folder = incomplete[0]
        raise UserError(
            f"image {images[name]} has no mask in {folder}{_more(incomplete)}: add an empty mask or remove the image."
        )
    return _checked(Dataset(root, "folders", tuple(folder.name for folder in folders), cases))


def _masks_by_id(folder: Path, images: Mapping[str, Path]) -> dict[str, list[Path]]:
    """``ID.png``, and the masks ``ID_mask.png``, ``ID_mask_1.png`` … of BUSI."""
    found: dict[str, list[Path]] = defaultdict(list)
    for path in find_images(folder):
        stem = path.stem
        found[stem if stem in images else stem.split("_mask")[0]].append(path)
    return dict(found)


def _nnunet(root: Path, strict: bool) -> Dataset:
    """nnU-Net raw: ``imagesTr/CASE_0000.png``, ``labelsTr/CASE.png``, names and values of the classes in ``dataset.json``."""
    info = _json(root / "dataset.json")
    labels = info.get("labels")
    ending = str(info.get("file_ending", ".png"))
    if not isinstance(labels, dict):
        raise UserError(f"{root / 'dataset.json'} has no 'labels' mapping of names to values: add it as nnU-Net wants it.")
    if ending.lower() not in IMAGE_SUFFIXES:
        raise UserError(f"{root / 'dataset.json'} names file_ending {ending!r}, which is not read yet: convert to PNG or TIFF.")
    channels: dict[str, list[Path]] = defaultdict(list)
    for path in find_images(root / "imagesTr"):
        channels[path.stem.rpartition("_")[0]].append(path)
    masks = (
        {name: (path,) for name, path in _by_id(find_images(root / "labelsTr")).items()} if (root / "labelsTr").is_dir() else {}
    )
    values = {str(name): int(value) for name, value in labels.items() if str(value).isdigit() and int(value) > 0}
    return _labelled(root, "nnunet", {k: tuple(v) for k, v in channels.items()}, masks, values, strict)


def _decathlon(path: Path, strict: bool) -> Dataset:
    """A JSON datalist: ``{"training": [{"image": …, "label": …}], "labels": {"1": "name"}}``, paths relative to it."""
    info = _json(path)
    images: dict[str, tuple[Path, ...]] = {}
    masks: dict[str, tuple[Path, ...]] = {}
    entries = info.get("training")
    if not isinstance(entries, list) or not all(isinstance(e, dict) and "image" in e and "label" in e for e in entries):
        raise UserError(f"{path} has no 'training' list of {{'image': …, 'label': …}} entries.")
    for entry in entries:
        files = entry["image"] if isinstance(entry["image"], list) else [entry["image"]]
        name = Path(str(files[0])).stem
        if name in images:
            raise UserError(f"{path} names {name!r} twice in 'training': every image needs a name of its own.")
        images[name] = tuple(path.parent / str(file) for file in files)
        masks[name] = (path.parent / str(entry["label"]),)
    for file in (file for files in (*images.values(), *masks.values()) for file in files):
        if not file.is_file():
            raise UserError(f"{path} names {file}, which does not exist.")
    labels = info.get("labels", {})
    values = {str(n): int(v) for v, n in labels.items() if str(v).isdigit() and int(v) > 0} if isinstance(labels, dict) else {}
    return _labelled(path.parent, "decathlon", images, masks, values, strict)


def _labelled(
    root: Path,
    layout: str,
    images: Mapping[str, Path | tuple[Path, ...]],
    masks: Mapping[str, tuple[Path, ...]],
    values: Mapping[str, int],
    strict: bool,
) -> Dataset:
    """A dataset of label maps; without names of classes the values are looked up in the maps, {0, 255} is binary."""
    if not masks:
        raise UserError(f"{root} has no masks: every image needs a label map of the same name.")
    _paired(root, images, masks, strict)
    names = sorted(images.keys() & masks.keys())
    files = {name: found if isinstance(found, tuple) else (found,) for name, found in images.items()}
    cases = tuple(Case(name, files[name], (masks[name],)) for name in names)
    if not values:
        values = {str(value): value for value in label_values([path for name in names for path in masks[name]])}
    ordered = sorted(values.items(), key=lambda item: item[1])
    return _checked(Dataset(root, layout, tuple(name for name, _ in ordered), cases, tuple(value for _, value in ordered)))


def _checked(dataset: Dataset) -> Dataset:
    if not dataset.cases:
        raise UserError(f"{dataset.root} has no image with a mask of the same name.")
    if not dataset.classes:
        raise UserError(f"every mask of {dataset.root} is empty: nothing can be learned.")
    return dataset


def _paired(root: Path, images: Mapping[str, Any], masks: Iterable[str], strict: bool) -> None:
    known = set(masks)
    alone = sorted(images.keys() - known), sorted(known - images.keys())
    if strict and alone[0]:
        raise UserError(f"image {alone[0][0]!r} of {root} has no mask{_more(alone[0])}: add the mask or remove the image.")
    if strict and alone[1]:
        raise UserError(f"mask {alone[1][0]!r} of {root} has no image{_more(alone[1])}: add the image or remove the mask.")


def _more(items: Sequence[Any]) -> str:
    return f" (nor have {len(items) - 1} others)" if len(items) > 1 else ""


def _by_id(paths: Sequence[Path]) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for path in paths:
        if path.stem in found:
            raise UserError(f"{path} and {found[path.stem].name} have the same name: keep one of them.")
        found[path.stem] = path
    return found


def _json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text())
    except OSError:
        raise UserError(f"{path} does not exist or cannot be read.") from None
    except ValueError as error:
        raise UserError(f"{path} is not valid JSON ({error}).") from None
    return content if isinstance(content, dict) else {}
