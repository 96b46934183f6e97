"""What a training on volumes takes when nobody says: voxel size, patch, and patches an epoch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import numpy as np

from allukan.data.volumes import Geometry

_STEP = 8  # sides of a patch are multiples of it
_LEAST = 16  # voxels of a side
_MOST = 2**19  # voxels of a patch, as of 80 × 80 × 80
_REPEATS = 8  # patches of a volume, an epoch, at most


@dataclass(frozen=True)
class VolumePlan:
    """Patch ``(D, H, W)``, voxels in mm along these axes, and how many patches of every volume make an epoch."""

    size: tuple[int, ...]
    spacing_mm: tuple[float, ...]
    repeats: int


def default_plan(
    cases: Sequence[Geometry], size: tuple[int, ...] = (), spacing_mm: tuple[float, ...] | None = None
) -> VolumePlan:
    """From the grids of the training cases; what is given stays.

    Voxels of the median spacing; a patch of the median shape at that spacing, rounded up to multiples of 8, whose longest sides
    become shorter until it has at most 2¹⁹ voxels; and as many patches as cover a volume of that shape, 8 at most.

    >>> default_plan([Geometry.of_pixels((35, 51, 36), (1.0, 1.0, 1.0))])
    VolumePlan(size=(40, 56, 40), spacing_mm=(1.0, 1.0, 1.0), repeats=1)
    """
    spacing = spacing_mm or tuple(np.median([case.spacing_mm for case in cases], axis=0).tolist())
    shape = np.median([case.shape_at(spacing) for case in cases], axis=0)
    size = size or _patch([max(_LEAST, -(-int(side) // _STEP) * _STEP) for side in shape])
    return VolumePlan(size, spacing, min(_REPEATS, max(1, round(float(shape.prod()) / prod(size)))))


def _patch(sides: list[int]) -> tuple[int, ...]:
    while prod(sides) > _MOST:
        sides[sides.index(max(sides))] -= _STEP
    return tuple(sides)
