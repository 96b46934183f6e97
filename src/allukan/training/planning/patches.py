"""Sizes at which a network may work, from that of a whole image down to the smallest."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from allukan.training.planning.stages import USUAL, Candidate, stages_for

SMALLEST = 32  # voxels of an axis, where the image has as many
LARGEST_PICTURE = 512  # pixels of the longer side: a picture is resized as a whole
_STEP = 32  # what five halvings divide by


def patches(size: Sequence[int], spacing_mm: Sequence[float] | None = None) -> Iterator[Candidate]:
    """Patches with their stages, each smaller than the one before; multiples of what the stages divide by.

    The first holds an image of ``size``. From one to the next the axis that is longest in mm gives way, down to ``SMALLEST``.

    >>> [patch for patch, _ in patches((36, 50, 35))]
    [(40, 56, 40), (40, 48, 40), (40, 40, 40), (32, 40, 40), (32, 32, 40), (32, 32, 32)]
    """
    wanted, voxel, least = list(size), spacing_mm or (1.0,) * len(size), math.inf
    while True:
        stages = stages_for(wanted, voxel)
        patch = tuple(-(-n // factor) * factor for n, factor in zip(wanted, stages.total, strict=True))
        if math.prod(patch) < least:  # other stages may round another axis up by more than this one gave way
            least = math.prod(patch)
            yield Candidate(patch, stages)
        longest = [axis for axis in range(len(size)) if patch[axis] - stages.total[axis] >= min(SMALLEST, size[axis])]
        if not longest:
            return
        axis = max(longest, key=lambda a: patch[a] * voxel[a])
        wanted = [*patch]
        wanted[axis] -= stages.total[axis]


def pictures(size: Sequence[int]) -> Iterator[Candidate]:
    """Sizes to which whole pictures of ``size`` are brought, of their proportions, in multiples of 32; always five halvings.

    >>> [patch for patch, _ in pictures((600, 800))][:3]
    [(384, 512), (352, 480), (320, 448)]
    """
    longest = min(LARGEST_PICTURE, max(_STEP, round(max(size) / _STEP) * _STEP))
    for side in range(longest, 0, -_STEP):
        yield Candidate(tuple(max(_STEP, round(n * side / max(size) / _STEP) * _STEP) for n in size), USUAL)
