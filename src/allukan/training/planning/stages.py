"""Stages, strides and kernels for a patch: how often each of its axes can be halved, and when."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, NamedTuple

MOST_STAGES = 5
_LEAST = 4  # voxels of an axis at the bottom, where it was halved
_ALIKE = 2  # sides of voxels below this ratio count as alike


@dataclass(frozen=True)
class Stages:
    """What ``topology.strides`` and ``topology.kernels`` of a network are to be.

    Attributes:
        strides: of every stage, along every axis.
        kernels: at every resolution.
    """

    strides: tuple[tuple[int, ...], ...]
    kernels: tuple[tuple[int, ...], ...]

    @property
    def total(self) -> tuple[int, ...]:
        """What an axis is divided by in all: patches are multiples of it."""
        return tuple(map(prod, zip(*self.strides, strict=True)))

    @property
    def usual(self) -> bool:
        """Whether a network is like this without being told."""
        halved = all(set(stride) == {2} for stride in self.strides) and len(self.strides) == MOST_STAGES
        return halved and all(set(kernel) == {3} for kernel in self.kernels)

    def topology(self) -> dict[str, Any]:
        """As options of the model; nothing where a network is like this anyway."""
        if self.usual:
            return {}
        return {"strides": [list(stride) for stride in self.strides], "kernels": [list(kernel) for kernel in self.kernels]}


class Candidate(NamedTuple):
    """A patch that a network may work on, a multiple of what its stages divide by."""

    patch: tuple[int, ...]
    stages: Stages


USUAL = Stages(((2, 2),) * MOST_STAGES, ((3, 3),) * (MOST_STAGES + 1))  # of pictures


def stages_for(size: Sequence[int], spacing_mm: Sequence[float] | None = None) -> Stages:
    """Halve the axes of short voxels first, the others once their voxels are alike, while 4 voxels of an axis are left.

    Kernels are 1 along an axis until its voxels are less than twice as long as the shortest, then 3. After nnU-Net
    (arXiv 1904.08128, online methods).

    >>> stages_for((40, 56, 40)).strides
    ((2, 2, 2), (2, 2, 2), (2, 2, 2))
    >>> stages_for((16, 160, 160), (5.0, 1.0, 1.0)).strides
    ((1, 2, 2), (1, 2, 2), (2, 2, 2), (2, 2, 2), (1, 2, 2))
    """
    left, voxel = list(size), list(spacing_mm or [1.0] * len(size))
    strides: list[tuple[int, ...]] = []
    kernels = [_kernel(voxel, (1,) * len(size))]
    while len(strides) < MOST_STAGES and any(stride := _stride(left, voxel)):
        factors = tuple(1 + halved for halved in stride)
        left = [-(-n // factor) for n, factor in zip(left, factors, strict=True)]
        voxel = [side * factor for side, factor in zip(voxel, factors, strict=True)]
        strides.append(factors)
        kernels.append(_kernel(voxel, kernels[-1]))
    if not strides:  # a network has a stage, whatever its image
        strides, kernels = [(1,) * len(size)], kernels * 2
    return Stages(tuple(strides), tuple(kernels))


def _stride(left: Sequence[int], voxel: Sequence[float]) -> tuple[bool, ...]:
    """Which axes are halved next; none where nothing is to be gained."""
    room = [n >= 2 * _LEAST for n in left]
    shortest = min((side for side, has in zip(voxel, room, strict=True) if has), default=0.0)
    halved = tuple(has and side < _ALIKE * shortest for has, side in zip(room, voxel, strict=True))
    alone = sum(halved) == 1 and max(n for n, chosen in zip(left, halved, strict=True) if chosen) < 3 * _LEAST
    return (False,) * len(left) if alone else halved


def _kernel(voxel: Sequence[float], before: Sequence[int]) -> tuple[int, ...]:
    return tuple(3 if was == 3 or side < _ALIKE * min(voxel) else 1 for side, was in zip(voxel, before, strict=True))
