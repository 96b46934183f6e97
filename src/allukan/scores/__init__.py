"""How good masks are: scores of a case, means with intervals, differences and their tests. Plain arrays in."""

from allukan.scores.crossed import crossed_bootstrap, crossed_difference
from allukan.scores.difference import CrossedDifference, mean_difference
from allukan.scores.metrics import METRICS, case_metrics, check_complete, pooled_iou
from allukan.scores.statistics import bootstrap_interval, holm, paired_difference, summarise

__all__ = [
    "METRICS",
    "CrossedDifference",
    "bootstrap_interval",
    "case_metrics",
    "check_complete",
    "crossed_bootstrap",
    "crossed_difference",
    "holm",
    "mean_difference",
    "paired_difference",
    "pooled_iou",
    "summarise",
]
