"""Training: configuration, loss, batches, the Lightning module and the run that ties them together."""

from allukan.training.config import TrainConfig, load_config, merge
from allukan.training.losses import SegmentationLoss
from allukan.training.module import SegmentationModule
from allukan.training.resume import resume_config
from allukan.training.run import train

__all__ = [
    "SegmentationLoss",
    "SegmentationModule",
    "TrainConfig",
    "load_config",
    "merge",
    "resume_config",
    "train",
]
