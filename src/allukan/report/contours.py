"""Outlines of masks as the paths of SVG: sharp at any size, and a few hundred bytes each."""

from __future__ import annotations

import numpy as np
from contourpy import contour_generator
from matplotlib.path import Path
from numpy.typing import NDArray

FINE = 4  # steps a pixel: coordinates are whole numbers of them
_TOLERANCE = 0.35  # of a pixel, by which an outline may be off


def outline(mask: NDArray[np.bool_]) -> str:
    """The outlines of a mask ``(H, W)`` as data of an SVG path, to be filled by the rule "evenodd"; "" for an empty mask.

    In quarters of a pixel from the corner of the image, so that the centre of the first pixel is (2, 2).

    >>> outline(np.ones((2, 3), bool))
    'M0 2l2-2 8 0 2 2 0 4-2 2-8 0-2-2z'
    """
    if not mask.any():
        return ""
    y, x = (np.arange(-0.5, size + 1) for size in mask.shape)
    lines = contour_generator(x, y, np.pad(mask, 1).astype(np.float32)).lines(0.5)
    return "".join(_closed(np.asarray(line)) for line in lines)


def _closed(line: NDArray[np.float64]) -> str:
    path = Path(line)
    path.simplify_threshold = _TOLERANCE
    kept = path.cleaned(simplify=True)
    drawn = np.isin(np.asarray(kept.codes, np.uint8), (Path.MOVETO, Path.LINETO))
    points = np.round(np.asarray(kept.vertices, np.float64)[drawn] * FINE).astype(int)
    steps = np.diff(points, axis=0)
    steps = steps[steps.any(1)]
    steps = steps[:-1] if not steps.sum(0).any() else steps  # z closes it
    if len(steps) < 2:
        return ""
    return "M{} {}l".format(*points[0]) + " ".join(f"{dx} {dy}" for dx, dy in steps).replace(" -", "-") + "z"
