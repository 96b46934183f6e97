"""Applying, evaluating and reporting on trained models."""

from allukan.inference.activations import Activations, LayerActivations, Measured, inspect_activations, measure_activations
from allukan.inference.atlas import draw_atlas
from allukan.inference.evaluation import Run, evaluate, open_run
from allukan.inference.finding import find_images
from allukan.inference.folds import evaluate_folds, open_folds
from allukan.inference.fusion import fuse
from allukan.inference.inputs import file_order
from allukan.inference.likeness import LikenessCheck, keep_likeness
from allukan.inference.matching import match_classes
from allukan.inference.predict import InputImage, Outcome, predict_files
from allukan.inference.predictor import Prediction, Predictor
from allukan.inference.reporting import report

__all__ = [
    "Activations",
    "InputImage",
    "LayerActivations",
    "LikenessCheck",
    "Measured",
    "Outcome",
    "Prediction",
    "Predictor",
    "Run",
    "draw_atlas",
    "evaluate",
    "evaluate_folds",
    "file_order",
    "find_images",
    "fuse",
    "inspect_activations",
    "keep_likeness",
    "match_classes",
    "measure_activations",
    "open_folds",
    "open_run",
    "predict_files",
    "report",
]
