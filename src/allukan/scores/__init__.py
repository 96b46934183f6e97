"""How good masks are: scores of a case, calibration, means with intervals, differences and their tests. Plain arrays in."""

from allukan.scores.calibration import Calibration
from allukan.scores.crossed import crossed_bootstrap, crossed_difference
from allukan.scores.difference import CrossedDifference, mean_difference
from allukan.scores.empty import EMPTY_MASKS, EmptyMasks, EmptyRule
from allukan.scores.metrics import (
    AREAS,
    METRICS,
    VOLUMES,
    case_metrics,
    check_complete,
    group_dice,
    pooled_iou,
    volume_metrics,
)
from allukan.scores.statistics import bootstrap_interval, holm, paired_difference, signed_rank, summarise

__all__ = [
    "AREAS",
    "EMPTY_MASKS",
    "METRICS",
    "VOLUMES",
    "Calibration",
    "CrossedDifference",
    "EmptyMasks",
    "EmptyRule",
    "bootstrap_interval",
    "case_metrics",
    "check_complete",
    "crossed_bootstrap",
    "crossed_difference",
    "group_dice",
    "holm",
    "mean_difference",
    "paired_difference",
    "pooled_iou",
    "signed_rank",
    "summarise",
    "volume_metrics",
]
