"""The volumes of a training, read once and brought to the voxels that it works at."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from pathlib import Path

import numpy as np

from allukan.data import Dataset, Prepared, Splits, Volumes, prepare_volumes
from allukan.models import ModelCard

_REPEATS = 8  # patches of a volume, an epoch, at most


@dataclass(frozen=True)
class Sets:
    """What is trained and validated on, and how many patches of every training volume make an epoch."""

    train: Prepared | Volumes
    val: Prepared | Volumes
    repeats: int = 1


def read_volumes(card: ModelCard, dataset: Dataset, splits: Splits, channels: tuple[int, ...], cache: Path | None = None) -> Sets:
    """Read both parts as the model wants them, into files of ``cache`` if there is one; raises as ``prepare_volumes``."""
    train, val = (
        prepare_volumes(dataset, dataset.select(ids), channels, card.spacing_mm, card.intensities, cache)
        for ids in (splits.train, splits.val)
    )
    return Sets(train, val, patches_of_a_volume([image.geometry.shape for image in train.images], card.size))


def patches_of_a_volume(shapes: list[tuple[int, ...]], size: tuple[int, ...]) -> int:
    """As many as cover a volume of the median shape, at most 8.

    >>> patches_of_a_volume([(35, 51, 36)], (40, 56, 40)), patches_of_a_volume([(40, 40, 40)], (16, 32, 32))
    (1, 4)
    """
    median = float(np.median(shapes, axis=0).prod())
    return min(_REPEATS, max(1, round(median / prod(size))))
