"""How good masks are: scores of a case, means with intervals, differences and their tests. Plain arrays in."""

from allukan.scores.metrics import METRICS, case_metrics, check_complete, pooled_iou
from allukan.scores.statistics import bootstrap_interval, holm, paired_difference, summarise

__all__ = [
    "METRICS",
    "bootstrap_interval",
    "case_metrics",
    "check_complete",
    "holm",
    "paired_difference",
    "pooled_iou",
    "summarise",
]
