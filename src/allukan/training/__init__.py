"""Training: configuration, loss, batches, the Lightning module and the run that ties them together."""

from allukan.training.config import (
    MACHINE_OPTIONS,
    PROTOCOLS,
    TrainConfig,
    check_names,
    load_config,
    merge,
    read_value,
    read_yaml,
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
    "check_names",
    "image_files",
    "load_config",
    "merge",
    "read_value",
    "read_yaml",
    "resume_config",
    "train",
]
