"""Applying, evaluating and reporting on trained models."""

from allukan.inference.activations import Activations, LayerActivations, Measured, inspect_activations, measure_activations
from allukan.inference.atlas import draw_atlas
from allukan.inference.components import Cleaning
from allukan.inference.ensemble import Ensemble
from allukan.inference.evaluation import Run, evaluate, open_run
from allukan.inference.finding import find_images
from allukan.inference.folds import evaluate_folds, joined, open_folds, open_segmenter
from allukan.inference.fusion import fuse
from allukan.inference.inputs import file_order
from allukan.inference.likeness import LikenessCheck, keep_likeness
from allukan.inference.matching import match_classes
from allukan.inference.predict import InputImage, Outcome, predict_files
from allukan.inference.predictor import Predictor
from allukan.inference.reporting import Evaluated, report
from allukan.inference.segmenter import Prediction, Segmenter
from allukan.inference.state import check_current

__all__ = [
    "Activations",
    "Cleaning",
    "Ensemble",
    "Evaluated",
    "InputImage",
    "LayerActivations",
    "LikenessCheck",
    "Measured",
    "Outcome",
    "Prediction",
    "Predictor",
    "Run",
    "Segmenter",
    "check_current",
    "draw_atlas",
    "evaluate",
    "evaluate_folds",
    "file_order",
    "find_images",
    "fuse",
    "inspect_activations",
    "joined",
    "keep_likeness",
    "match_classes",
    "measure_activations",
    "open_folds",
    "open_run",
    "open_segmenter",
    "predict_files",
    "report",
]
