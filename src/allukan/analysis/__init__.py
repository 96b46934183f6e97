"""Metrics, statistics, accounting and the HTML report; plain arrays in."""

from allukan.analysis import torch_counter
from allukan.analysis.accounting import parameter_count, saved_bytes
from allukan.analysis.flops import spline_evaluations
from allukan.analysis.inspection import Inspection, inspect_model
from allukan.analysis.metrics import METRICS, case_metrics, pooled_iou
from allukan.analysis.report import Activation, Overlay, RunReport, write_report
from allukan.analysis.statistics import bootstrap_interval, holm, paired_difference, summarise

__all__ = [
    "METRICS",
    "Activation",
    "Inspection",
    "Overlay",
    "RunReport",
    "bootstrap_interval",
    "case_metrics",
    "holm",
    "inspect_model",
    "paired_difference",
    "parameter_count",
    "pooled_iou",
    "saved_bytes",
    "spline_evaluations",
    "summarise",
    "torch_counter",
    "write_report",
]
