"""What the values of label maps are when nobody says: classes, or something that must not be learned as classes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import ndimage

from allukan.data.masks import read_labels
from allukan.errors import UserError

MOST = 64  # values that can be classes
_FILLED = (255, 65535)  # all bits set: VOC's and nnU-Net's mark for pixels to ignore, as often as a class


@dataclass(frozen=True)
class Survey:
    """Of one label map.

    Attributes:
        values: above 0.
        single: those whose pixels are one connected region.
        solid: those that fill 3 × 3 pixels (3 × 3 × 3 voxels) somewhere; the others are thin lines.
    """

    values: frozenset[int] = frozenset()
    single: frozenset[int] = frozenset()
    solid: frozenset[int] = frozenset()


def survey(path: Path) -> Survey:
    """Look at one label map. Raises ``UserError`` where it is none, and for more than ``MOST`` values."""
    labels = read_labels(path)
    values, places = np.unique(labels, return_inverse=True)
    if (values > 0).sum() > MOST:
        raise UserError(f"label map {path} holds {(values > 0).sum()} values: is it a mask, and not interpolated?")
    places = places.reshape(labels.shape) + 1
    regions = zip(values.tolist(), ndimage.find_objects(places), range(1, len(values) + 1), strict=True)
    single = {value for value, box, place in regions if ndimage.label(places[box] == place, np.ones((3,) * labels.ndim))[1] == 1}
    inside = ndimage.minimum_filter(labels, 3) == ndimage.maximum_filter(labels, 3)
    none = {0}
    return Survey(*(frozenset(found - none) for found in (set(values.tolist()), single, set(labels[inside].tolist()))))


def ignore_doubt(values: Sequence[int]) -> str:
    """Why one of the values may mean "ignore"; empty where none does."""
    filled = [value for value in values if value in _FILLED]
    others = [value for value in values if value not in _FILLED]
    if not (filled and others):
        return ""
    shown = ", ".join(map(str, others[:5])) + (" …" if len(others) > 5 else "")
    return (
        f"the label {filled[-1]} stands beside {shown}: say --ignore {filled[-1]} if such pixels are to count nowhere, "
        "or --ignore none if it is a class"
    )


def class_doubt(surveys: Sequence[Survey]) -> tuple[str, bool]:
    """Why the values may be no classes, and whether that is certain; empty where they may well be.

    Numbered objects: nearly every map counts from 1 and each number is one region; certain when they count beyond 5 and not to
    the same number everywhere. Interpolation: values that are thin lines only, beside larger ones that are areas; certain when
    there are more than 5 of them, and more than of the others.
    """
    seen = [found for found in surveys if found.values]
    values = sorted(set().union(*(found.values for found in seen)))
    counts = {len(found.values) for found in seen}
    counted = [found for found in seen if found.values == frozenset(range(1, len(found.values) + 1))]
    regions = sum(len(found.single) for found in seen) / max(1, sum(len(found.values) for found in seen))
    if len(counts) > 1 and max(counts) > 2 and min(regions, len(counted) / len(seen)) >= 0.9:
        certain = max(counts) > 5 and len(counts) > 2
        return "every map counts from 1 and each number is one region: they look like numbered objects", certain
    solid = set().union(*(found.solid for found in seen))
    thin = [value for value in values if value not in solid and solid and value < max(solid)]
    if thin:
        shown = ", ".join(map(str, thin[:5])) + (" …" if len(thin) > 5 else "")
        certain = len(thin) > max(5, len(solid))
        return f"{shown} are only thin lines beside larger values: they look interpolated, or like JPEG", certain
    return "", False
