"""Cases as the pictures of the report: scaled to what a page shows, volumes cut in three planes."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import find_objects, label

from allukan.data import as_bytes, resize_image
from allukan.data.volumes import CANONICAL, Image, resize_labels
from allukan.report import SIDE, Picture, Plane, picture, plane

SLICES = 9  # of a plane, through what truth and prediction fill
_PLANES = ("axial", "coronal", "sagittal")  # across D, H, W, which grow to the head, to the back and to the left
Masks = NDArray[np.bool_]


def picture_of(image: NDArray[Any] | Image, truth: Masks, prediction: Masks) -> Picture:
    """Of a case in its own geometry: image ``(H, W, C)`` or a volume, masks ``(K, *S)``."""
    if not isinstance(image, Image):
        return picture(*_fitted(as_bytes(image), truth, prediction))
    axes = image.geometry.axes_to(CANONICAL[3])
    turned = image.moved(axes)
    grey, truth, prediction = as_grey(turned.array[0]), axes.apply(truth), axes.apply(prediction)
    return Picture(tuple(_plane(axis, grey, truth, prediction, turned.spacing_mm) for axis in range(3)))


def _plane(axis: int, grey: NDArray[np.uint8], truth: Masks, prediction: Masks, spacing_mm: tuple[float, ...]) -> Plane:
    """Slices across ``axis``, the patient's head or front upwards and left side to the right."""
    rows = slice(None, None, -1 if axis else 1)  # the head is up
    slices = []
    for place in _places(np.asarray((truth | prediction).any(0)), axis):
        masks = [part.take(place, axis + 1)[:, rows] for part in (truth, prediction)]
        slices.append(_fitted(grey.take(place, axis)[rows, :, None], *masks))
    height, width = (mm * size for other, (mm, size) in enumerate(zip(spacing_mm, grey.shape, strict=True)) if other != axis)
    shown = slices[0][0].shape
    return plane(_PLANES[axis], slices, (height / shown[0]) / (width / shown[1]))


def _places(filled: Masks, axis: int) -> NDArray[np.intp]:
    """Indices along ``axis`` through what is filled, ends included; through everything where nothing is."""
    others = tuple(other for other in range(3) if other != axis)
    found = np.flatnonzero(filled.any(others))
    first, last = (found[0], found[-1]) if len(found) else (0, filled.shape[axis] - 1)
    return np.unique(np.linspace(first, last, SLICES).round().astype(np.intp))


def as_grey(values: NDArray) -> NDArray[np.uint8]:
    """Intensities between the 0.5th and the 99.5th percentile as bytes."""
    low, high = np.percentile(values, (0.5, 99.5))
    scaled = (values.astype(np.float32) - low) / max(high - low, 1e-6)
    return np.asarray((scaled.clip(0, 1) * 255).round().astype(np.uint8))


def _fitted(image: NDArray[np.uint8], truth: Masks, prediction: Masks) -> tuple[NDArray[np.uint8], Masks, Masks]:
    """Not larger than the page shows them."""
    height, width = image.shape[:2]
    scale = min(1.0, SIDE / max(height, width))
    size = max(1, round(height * scale)), max(1, round(width * scale))
    return resize_image(image, size), fitted_masks(truth, size), fitted_masks(prediction, size)


def fitted_masks(masks: Masks, size: tuple[int, int]) -> Masks:
    """``(K, H, W)`` → ``(K, *size)`` by the nearest pixel; a part that lies between those keeps one: no lesion is overlooked."""
    fitted = resize_labels(masks, size)
    for k, mask in enumerate(masks):
        parts, _ = label(mask)
        kept = set(np.unique(resize_labels(parts, size)).tolist())
        for number, box in enumerate(find_objects(parts), 1):
            if number not in kept:
                place = ((end.start + end.stop) * new // (2 * old) for end, new, old in zip(box, size, mask.shape, strict=True))
                fitted[(k, *place)] = True
    return fitted
