"""Masks and label maps: files to one plane of 0 and 1 a class."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from allukan.data.dataset import Case, Dataset
from allukan.data.decode import decode
from allukan.data.images import size_text
from allukan.data.pixels import Decoded
from allukan.errors import UserError


def read_masks(case: Case, dataset: Dataset) -> NDArray[np.uint8]:
    """Masks of a case as 0 and 1, ``(K, H, W)``; several files of one class are united.

    In layout "folders" a mask has at most two values, the higher one is foreground; RGB, RGBA and palette files are fine. Label
    maps are read by their stored value (the index, for a palette). Raises ``UserError`` for any other mask.
    """
    if dataset.layout == "folders":
        return np.stack([_union([_binary(path) for path in files], files) for files in case.masks])
    path = case.masks[0][0]
    labels = _labels(path)
    unknown = sorted(set(np.unique(labels).tolist()) - {0, *dataset.label_values})
    if unknown:
        raise UserError(f"{path} holds the label values {unknown[:5]}, known are {[0, *dataset.label_values]}.")
    return (labels == np.array(dataset.label_values).reshape(-1, 1, 1)).astype(np.uint8)


def _union(masks: Sequence[NDArray[np.uint8]], files: Sequence[Path]) -> NDArray[np.uint8]:
    for path, mask in zip(files, masks, strict=True):
        if mask.shape != masks[0].shape:
            raise UserError(
                f"{path} is {size_text(mask)} pixels but {files[0]} is {size_text(masks[0])}: masks of a case must agree."
            )
    united: NDArray[np.uint8] = np.maximum.reduce(list(masks))
    return united


def _binary(path: Path) -> NDArray[np.uint8]:
    values = _mask_values(path)
    found = np.unique(values)
    if len(found) > 2 or (len(found) == 2 and found[0] != 0):
        shown = ", ".join(map(str, found[:4].tolist())) + (" …" if len(found) > 4 else "")
        raise UserError(f"mask {path} is not binary: it holds {len(found)} values ({shown}) instead of 0 and one other.")
    return (values > 0).astype(np.uint8)


def _mask_values(path: Path) -> NDArray[Any]:
    """``(H, W)``: grey, or the strongest of the colours; what is transparent is background."""
    found = _decode_mask(path)
    values = (found.values if found.colours is None else found.colours).max(2)
    if found.opaque is not None:
        values = np.where(found.opaque, values, 0)
    if not np.isfinite(values).all():
        raise UserError(f"mask {path} holds NaN or infinite values: store 0 and 255.")
    return values


def _decode_mask(path: Path) -> Decoded:
    found = decode(path)
    if found.inverted:  # some programs mean the stored value, others what is shown: a guess would swap the classes
        raise UserError(f"mask {path} is a TIFF whose zero is white: save it again with black as zero.")
    if found.colours is None and found.values.shape[2] not in (1, 3):
        raise UserError(f"mask {path} has {found.values.shape[2]} channels: expected is one plane, grey or RGB.")
    return found


def _labels(path: Path) -> NDArray[Any]:
    found = _decode_mask(path)
    raw = found.values[..., 0]
    if found.values.shape[2] > 1 and (found.colours is not None or (found.values != raw[..., None]).any()):
        raise UserError(f"label map {path} is coloured: store the number of the class, grey or as a palette index.")
    if found.colours is None and found.opaque is not None and raw[~found.opaque].any():
        raise UserError(f"label map {path} holds labels where it is transparent: store it without alpha.")
    if not np.isfinite(raw).all() or (raw != np.floor(raw)).any() or raw.min() < 0:
        raise UserError(f"label map {path} must hold whole numbers from 0 upwards.")
    return raw.astype(np.int64)


def label_values(path: Path) -> set[int]:
    """Every value above 0 in a label map. Raises ``UserError`` where it is none, and for more than 64 values."""
    found = set(np.unique(_labels(path)).tolist()) - {0}
    if len(found) > 64:
        raise UserError(f"label map {path} holds {len(found)} values: is it a mask, and not interpolated?")
    return found
