"""Applying, evaluating and reporting on trained models."""

from allukan.inference.activations import Activations, LayerActivations, inspect_activations
from allukan.inference.evaluation import Run, evaluate, open_run
from allukan.inference.finding import find_images
from allukan.inference.folds import evaluate_folds, open_folds
from allukan.inference.fusion import fuse
from allukan.inference.inputs import file_order
from allukan.inference.matching import match_classes
from allukan.inference.predict import InputImage, Outcome, predict_files
from allukan.inference.predictor import Prediction, Predictor
from allukan.inference.reporting import report

__all__ = [
    "Activations",
    "InputImage",
    "LayerActivations",
    "Outcome",
    "Prediction",
    "Predictor",
    "Run",
    "evaluate",
    "evaluate_folds",
    "file_order",
    "find_images",
    "fuse",
    "inspect_activations",
    "match_classes",
    "open_folds",
    "open_run",
    "predict_files",
    "report",
]
