"""Fully Kolmogorov-Arnold deep models for medical image segmentation.

The names below are loaded on first use, so that ``import allukan`` and ``allukan --help`` are instant.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from allukan._version import __version__

if TYPE_CHECKING:
    from allukan.inference import Predictor
    from allukan.models import AllUKAN, build_model, load_model
    from allukan.nn import KAConv1d, KAConv2d, KAConv3d, KALinear, Spline, SplineActivation, convert

_HOMES = {
    "AllUKAN": "models",
    "build_model": "models",
    "load_model": "models",
    "Predictor": "inference",
    "KALinear": "nn",
    "KAConv1d": "nn",
    "KAConv2d": "nn",
    "KAConv3d": "nn",
    "Spline": "nn",
    "SplineActivation": "nn",
    "convert": "nn",
}

__all__ = [
    "AllUKAN",
    "KAConv1d",
    "KAConv2d",
    "KAConv3d",
    "KALinear",
    "Predictor",
    "Spline",
    "SplineActivation",
    "__version__",
    "build_model",
    "convert",
    "load_model",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'allukan' has no attribute {name!r}")
    return getattr(import_module(f"allukan.{_HOMES[name]}"), name)
