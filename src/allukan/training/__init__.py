"""Training: configuration, loss, batches, the Lightning module and the run that ties them together."""

from allukan.training.config import (
    MACHINE_OPTIONS,
    PROTOCOLS,
    TrainConfig,
    load_config,
    merge,
)
from allukan.training.losses import SegmentationLoss
from allukan.training.module import SegmentationModule
from allukan.training.resume import resume_config
from allukan.training.run import image_files, train

__all__ = [
    "MACHINE_OPTIONS",
    "PROTOCOLS",
    "SegmentationLoss",
    "SegmentationModule",
    "TrainConfig",
    "image_files",
    "load_config",
    "merge",
    "resume_config",
    "train",
]
