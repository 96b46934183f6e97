"""The volumes of a training, read once: their grids say what it takes, and then they are brought to its voxels."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace

from allukan.data import Dataset, Splits, Volumes, prepare_volumes
from allukan.training.config import TrainConfig
from allukan.training.volume_plan import default_plan

_log = logging.getLogger("allukan")


@dataclass(frozen=True)
class VolumeSets:
    """Training and validation volumes, the options with the size of patches and voxels, and how many patches a volume gives."""

    config: TrainConfig
    train: Volumes
    val: Volumes
    repeats: int


def read_volumes(config: TrainConfig, dataset: Dataset, splits: Splits, channels: Sequence[int]) -> VolumeSets:
    """Read both parts; what ``config`` leaves open is ``default_plan``'s of the training volumes, and said in the log.

    Raises ``UserError`` as ``prepare_volumes``.
    """
    train, val = (prepare_volumes(dataset, dataset.select(ids), channels) for ids in (splits.train, splits.val))
    plan = default_plan([image.geometry for image in train.images], config.size, config.spacing_mm)
    size, spacing = "×".join(map(str, plan.size)), "×".join(f"{side:.3g}" for side in plan.spacing_mm)
    _log.info(f"volumes: patches of {size} voxels of {spacing} mm, {plan.repeats} of each volume an epoch.")
    planned = replace(config, size=plan.size, spacing_mm=plan.spacing_mm)
    return VolumeSets(planned, train.at(plan.spacing_mm), val.at(plan.spacing_mm), plan.repeats)
