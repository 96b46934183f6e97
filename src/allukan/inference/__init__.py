"""Applying, evaluating and reporting on trained models."""

from allukan.inference.evaluate import Run, evaluate, open_run
from allukan.inference.fuse import fuse
from allukan.inference.matching import match_classes
from allukan.inference.predict import Outcome, find_inputs, predict_files
from allukan.inference.predictor import Prediction, Predictor
from allukan.inference.reporting import report

__all__ = [
    "Outcome",
    "Prediction",
    "Predictor",
    "Run",
    "evaluate",
    "find_inputs",
    "fuse",
    "match_classes",
    "open_run",
    "predict_files",
    "report",
]
