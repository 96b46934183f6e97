"""Sets as they are downloaded: a folder of images and one of their masks, by whatever names."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from os.path import isdir  # which is False where Path.is_dir raises: no permission
from pathlib import Path
from typing import NamedTuple

from allukan.data.given_splits import part_named
from allukan.data.names import IMAGE_FOLDERS, MANUAL_FOLDERS, MASK_FOLDERS, bare, is_image, is_volume, may_look
from allukan.data.roles import has_mask_word, mask_owner
from allukan.errors import UserError

FIELDS_OF_VIEW = ("mask", "masks")  # where a folder of manual masks stands beside it
_Names = Mapping[Path, frozenset[str]]  # of the images in folders


class Pair(NamedTuple):
    """A folder of images and that of their masks, which may not exist where the first is called ``images``."""

    images: Path
    masks: Path
    fields_of_view: tuple[Path, ...] = ()

    @property
    def notes(self) -> tuple[str, ...]:
        """On what is not used."""
        why = f"beside {self.masks.name} it is taken for the field of view"
        return tuple(f"{path} is not used: {why}." for path in self.fields_of_view)

    @property
    def folders(self) -> set[Path]:
        """All of them."""
        return {self.images, self.masks, *self.fields_of_view}


def pair_of(root: Path) -> Pair | None:
    """``images`` and ``masks`` of a folder, or what stands for them, as ``Original`` and ``Ground Truth`` of CVC-ClinicDB.

    Beside ``manual`` masks, as of DRIVE, ``mask`` is the field of view. Raises ``UserError`` where several folders stand for one.
    """
    images = _called(root, IMAGE_FOLDERS)
    if images is None:
        return None
    if pair := _beside_field_of_view(root, images):
        return pair
    masks = _called(root, MASK_FOLDERS)
    if masks is None and images.name != IMAGE_FOLDERS[0]:
        return None
    return Pair(images, masks or root / MASK_FOLDERS[0])


def two_folders(root: Path) -> Pair | None:
    """The only two folders of images of ``root``, where their names or those of their files say which are masks.

    So are ``scans`` and ``scans_masks``, and ISIC, ``…_Input/ISIC_1.jpg`` and ``…_GroundTruth/ISIC_1_segmentation.png``.
    """
    held = _holding(root)
    return _pair(held) if len(held) == 2 else None


def pairs_by_part(root: Path) -> dict[str, Pair]:
    """Two folders for every part of a split, all in ``root``: ``train_images`` and ``train_masks``, and the four or six of ISIC.

    Another part than train may be one folder, without masks. Empty where a part has more than two, or two of which nothing says
    which are masks.
    """
    parts = defaultdict[str, dict[Path, frozenset[str]]](dict)
    for path, names in _holding(root).items():
        said = {part_named(word) for word in re.split("[^a-z]+", path.name.casefold())} - {""}
        if len(said) == 1:
            parts[said.pop()][path] = names
    found = {part: _pair(held) or (None if part == "train" else _alone(held)) for part, held in parts.items()}
    pairs = {part: pair for part, pair in found.items() if pair}
    return pairs if len(pairs) == len(parts) and "train" in pairs else {}


def _beside_field_of_view(root: Path, images: Path) -> Pair | None:
    """Where every image has a mask of the first hand."""
    inner = [path for path in may_look(root) if isdir(path)]
    manual, fields = ([path for path in inner if path.name.casefold() in names] for names in (MANUAL_FOLDERS, FIELDS_OF_VIEW))
    if len(manual) != 1 or not fields:
        return None
    names = _names(images)
    if names - {mask_owner(name, names).image for name in _names(manual[0], every=True)}:
        return None
    return Pair(images, manual[0], tuple(fields))


def _pair(held: _Names) -> Pair | None:
    for images, masks in _orders(held):
        told = has_mask_word(masks.name) and not has_mask_word(images.name)
        owners = [mask_owner(name, held[images]) for name in held[masks]]
        if (told and any(owner.image in held[images] for owner in owners)) or all(owner.word for owner in owners):
            return Pair(images, masks)
    return None


def _orders(held: Iterable[Path]) -> list[tuple[Path, Path]]:
    folders = tuple(held)
    return [(a, b) for a, b in (folders, folders[::-1])] if len(folders) == 2 else []


def _alone(held: _Names) -> Pair | None:
    images = [path for path in held if not has_mask_word(path.name)]
    return Pair(images[0], images[0] / MASK_FOLDERS[0]) if len(held) == len(images) == 1 else None


def _holding(root: Path) -> dict[Path, frozenset[str]]:
    """The folders of images within ``root``, with the names of these."""
    folders = [path for path in may_look(root) if isdir(path)]
    return {path: names for path in folders if (names := _names(path))}


def _names(folder: Path, *, every: bool = False) -> frozenset[str]:
    """Of the images in a folder; of ``every`` file also where they are in formats not read."""
    return frozenset(bare(path).name for path in may_look(folder) if is_file(path) or (every and not isdir(path)))


def is_file(path: Path) -> bool:
    """A picture or a volume, no folder of slices."""
    return not isdir(path) and (is_image(path) or is_volume(path))


def _called(root: Path, names: Sequence[str]) -> Path | None:
    """The folder of the first name, else the only one of any, in upper or lower case."""
    if isdir(root / names[0]):
        return root / names[0]
    found = [path for path in may_look(root) if path.name.casefold() in names and isdir(path)]
    if len(found) > 1:
        both = f"{found[0].name} and {found[1].name}"
        raise UserError(f"{root} has the folders {both}, which both may hold {names[0]}: rename one to {names[0]}.")
    return found[0] if found else None
