"""Training: configuration, loss, batches, the Lightning module and the run that ties them together."""

from allukan.training.checks import check_splines
from allukan.training.config import (
    MACHINE_OPTIONS,
    PROTOCOLS,
    TrainConfig,
    load_config,
    merge,
)
from allukan.training.losses import SegmentationLoss
from allukan.training.module import SegmentationModule
from allukan.training.parameters import spline_parameters
from allukan.training.resume import resume_config
from allukan.training.run import go_on, image_files, train

__all__ = [
    "MACHINE_OPTIONS",
    "PROTOCOLS",
    "SegmentationLoss",
    "SegmentationModule",
    "TrainConfig",
    "check_splines",
    "go_on",
    "image_files",
    "load_config",
    "merge",
    "resume_config",
    "spline_parameters",
    "train",
]
