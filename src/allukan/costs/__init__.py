"""What a network costs, the same on every machine: parameters, bytes saved for the backward pass, FLOPs, by layer."""

from allukan.costs import torch_counter
from allukan.costs.accounting import parameter_count, saved_bytes
from allukan.costs.flops import spline_evaluations
from allukan.costs.inspection import Inspection, inspect_model

__all__ = [
    "Inspection",
    "inspect_model",
    "parameter_count",
    "saved_bytes",
    "spline_evaluations",
    "torch_counter",
]
