"""Masks and label maps: files to one plane a class."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from allukan.data.dataset import Case, Dataset
from allukan.data.decode import decode
from allukan.data.names import has_frames, is_slice, is_volume
from allukan.data.pixels import Decoded
from allukan.errors import UserError

if TYPE_CHECKING:
    from allukan.data.volumes import Image

_BLACK, _WHITE = 16, 240  # nearly: what a JPEG makes of a mask between them is edges, and no flat area
_FLAT = 6  # range of an area of one grey
_GREY = 0.01  # of the white pixels: what areas of grey may be
IGNORED = 255  # in the planes of all classes, where a pixel is neither background nor a class


def read_masks(case: Case, dataset: Dataset, like: Image | None = None) -> NDArray[np.uint8]:
    """Masks of a case ``(K, *S)``: 1 in a class, 0 outside, ``IGNORED`` in all K where the label is ``dataset.ignored``.

    In layout "folders" a mask has at most two values, the higher one is foreground; RGB, RGBA and palette files are fine, and
    several files of one class are united. Label maps are read by their stored value (the index, for a palette). Masks of volumes
    must lie on the volume ``like``, where it is given. Raises ``UserError`` for any other mask.
    """
    if dataset.layout == "folders":
        return _planes([[_binary(path, dataset.ignored, like) for path in files] for files in case.masks], case.masks)
    path = case.masks[0][0]
    labels = read_labels(path, like)
    known = {0, *dataset.label_values, *([] if dataset.ignored is None else [dataset.ignored])}
    unknown = [] if dataset.merged else sorted(set(np.unique(labels).tolist()) - known)
    if unknown:
        raise UserError(f"{path} holds the label values {unknown[:5]}, known are {sorted(known)}.")
    planes = labels[None] > 0 if dataset.merged else labels == np.array(dataset.label_values, int).reshape(-1, *[1] * labels.ndim)
    return np.where(labels == dataset.ignored, np.uint8(IGNORED), planes.astype(np.uint8))


def split_ignored(masks: NDArray[np.uint8], spatial_dims: int = 2) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Masks as ``read_masks`` gives them, ``(…, K, *S)`` → true and false, and where they count, ``(…, 1, *S)``.

    >>> truth, counts = split_ignored(np.array([[[0, 1, IGNORED]]], np.uint8))
    >>> truth.tolist(), counts.tolist()
    ([[[False, True, False]]], [[[True, True, False]]])
    """
    return masks == 1, ~(masks == IGNORED).any(-1 - spatial_dims, keepdims=True)


def _planes(classes: Sequence[Sequence[NDArray[np.uint8]]], files: Sequence[Sequence[Path]]) -> NDArray[np.uint8]:
    """The union of the masks of every class; what one of them ignores is ignored for all."""
    first = classes[0][0]
    for mask, path in zip(chain(*classes), chain(*files), strict=True):
        if mask.shape != first.shape:
            sizes = f"{path} is {_size(mask)} pixels but {files[0][0]} is {_size(first)}"
            raise UserError(f"{sizes}: masks of a case must agree.")
    planes = np.stack([np.maximum.reduce(list(masks)) for masks in classes])
    planes[:, (planes == IGNORED).any(0)] = IGNORED
    return planes


def _size(mask: NDArray[Any]) -> str:
    return "×".join(map(str, mask.shape))


def _binary(path: Path, ignored: int | None, like: Image | None) -> NDArray[np.uint8]:
    values = _mask_values(path, like)
    left_out = np.zeros(values.shape, bool) if ignored is None else values == ignored
    found = np.unique(values[~left_out])
    if len(found) > 2 or (len(found) == 2 and found[0] != 0):
        shown = ", ".join(map(str, found[:4].tolist())) + (" …" if len(found) > 4 else "")
        raise UserError(f"mask {path} is not binary: it holds {len(found)} values ({shown}) instead of 0 and one other.")
    return np.where(left_out, np.uint8(IGNORED), (values > 0).astype(np.uint8))


def foreground_values(case: Case, like: Image | None = None) -> set[int]:
    """The values above 0 in the binary masks of a case of class folders."""
    return {int(value) for path in chain(*case.masks) for value in np.unique(_mask_values(path, like)) if value > 0}


def _is_volume(path: Path, like: Image | None) -> bool:
    """A file of DICOM is one beside a volume, or where it has many frames."""
    return is_volume(path) and (like is not None or not is_slice(path) or has_frames(path))


def _mask_values(path: Path, like: Image | None = None) -> NDArray[Any]:
    """``(*S)``: grey, or the strongest of the colours; what is transparent is background."""
    if _is_volume(path, like):
        return read_labels(path, like)
    found = _decode_mask(path)
    values = (found.values if found.colours is None else found.colours).max(2)
    if found.opaque is not None:
        values = np.where(found.opaque, values, 0)
    if not np.isfinite(values).all():
        raise UserError(f"mask {path} holds NaN or infinite values: store 0 and 255.")
    return values


def _decode_mask(path: Path) -> Decoded:
    found = decode(path)
    if found.inverted or found.turned:  # some programs mean what is stored, others what is shown: a guess would swap classes
        kind = "a DICOM file" if found.turned else "a TIFF"
        raise UserError(f"mask {path} is {kind} whose zero is white: save it again with black as zero.")
    if found.colours is None and found.values.shape[2] not in (1, 3):
        raise UserError(f"mask {path} has {found.values.shape[2]} channels: expected is one plane, grey or RGB.")
    return _cut(path, found) if found.lossy else found


def _cut(path: Path, found: Decoded) -> Decoded:
    """A JPEG of black and white, as Kvasir-SEG has, cut at the middle; ``UserError`` for one that may hold anything else."""
    shown = found.values if found.colours is None else found.colours
    grey = shown.max(2)
    coloured = (grey - shown.min(2) >= 64).any()
    darkest, lightest = ndimage.minimum_filter(grey, 3), ndimage.maximum_filter(grey, 3)
    areas = ((darkest >= _BLACK) & (lightest < _WHITE) & (lightest - darkest <= _FLAT)).sum()
    white = (grey >= _WHITE).sum()
    if grey.dtype != np.uint8 or coloured or areas > _GREY * white or (grey.any() and not white):
        what = "is a JPEG of more than black and white, which changes the numbers of classes"
        raise UserError(f"mask {path} {what}: save the original as PNG or TIFF.")
    return replace(found, values=np.where(grey >= 128, np.uint8(255), np.uint8(0))[..., None], colours=None)


def read_labels(path: Path, like: Image | None = None) -> NDArray[Any]:
    """The whole numbers ``(*S)`` of a label map as stored. Raises ``UserError`` for a file that holds anything else.

    A volume must lie on the volume ``like``, where it is given.
    """
    if _is_volume(path, like):
        from allukan.data import volumes  # which reads label maps of pictures by this module

        return volumes.read_labels(path, like).array[0]
    found = _decode_mask(path)
    raw = found.values[..., 0]
    if found.values.shape[2] > 1 and (found.colours is not None or (found.values != raw[..., None]).any()):
        raise UserError(f"label map {path} is coloured: store the number of the class, grey or as a palette index.")
    if found.colours is None and found.opaque is not None and raw[~found.opaque].any():
        raise UserError(f"label map {path} holds labels where it is transparent: store it without alpha.")
    if not np.isfinite(raw).all() or (raw != np.floor(raw)).any() or raw.min() < 0:
        raise UserError(f"label map {path} must hold whole numbers from 0 upwards.")
    return raw.astype(np.int64)
