"""The layouts of a dataset on disk, recognised by themselves."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from itertools import chain
from pathlib import Path

from allukan.data.assembly import of_beside, of_case_folders, of_mask_folders, plain
from allukan.data.case_folders import case_folders
from allukan.data.dataset import Dataset, GivenSplit
from allukan.data.decode import IMAGE_SUFFIXES
from allukan.data.downloads import beside
from allukan.data.listed import open_decathlon, open_nnunet
from allukan.data.mask_folders import mask_folders
from allukan.data.names import has_frames, is_data, is_slice, is_volume, notes, on_disk, visible
from allukan.data.pairing import Problem, read_json
from allukan.data.pairs import Pair, pair_of, two_folders
from allukan.data.part_folders import Part, open_parts, paired_parts, part_folders, parts_within
from allukan.data.unused import unused
from allukan.errors import UserError
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
        return _pair(root, pair, rules, problems)
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
        return _pair(root, pair, rules, problems)
    if folders := mask_folders(root, problems, united=rules.foreground):
        return of_mask_folders(root, folders, rules, problems)
    if cases := case_folders(root, problems):
        return of_case_folders(root, cases, rules, problems)
    if (found := beside(root, problems)).images:
        return of_beside(root, found, rules, problems)
    raise UserError(_unknown(root))


def _without_channels(root: Path, rules: LabelRules, problems: list[Problem]) -> Dataset:
    """Folders of the Decathlon whose list is lost, which say all but the names of the classes."""
    if (root / "dataset.json").is_file() or not (root / "labelsTr").is_dir():
        return open_nnunet(root, rules, problems)
    return _pair(root, Pair(root / "imagesTr", root / "labelsTr"), rules, problems)


def _pair(root: Path, pair: Pair, rules: LabelRules, problems: list[Problem]) -> Dataset:
    notes = pair.notes + unused(root, pair.folders, f": there is {pair.images}")
    return replace(plain(root, pair, rules, problems), given=GivenSplit(notes=notes))


def _parts(root: Path, parts: Mapping[str, Part], rules: LabelRules, problems: list[Problem]) -> Dataset:
    return open_parts(root, parts, lambda part: plain(part.root, part.pair, rules, problems, root))


def _unknown(root: Path) -> str:
    folders = [path for path in visible(root) if path.is_dir()]
    for path in folders:
        wanted = _FOLDERS.get(path.name.lower(), path.name)
        if wanted != path.name:
            return f"{path} is spelled otherwise than expected: rename it to {wanted}."
    if inner := [path for path in folders if pair_of(path) or part_folders(path) or mask_folders(path, [])]:
        return f"{root} holds {len(inner)} dataset{'s: give one of them, as' * (len(inner) > 1) or ': give'} {inner[0]}."
    return f"{root} is empty: {_HOW}." if not visible(root) else f"{root} holds no dataset that is recognised: {_HOW}."
