"""Segmentation networks and how to build, save and load them."""

from allukan.models.allukan import SIZES, AllUKAN, ka_layers
from allukan.models.factory import MODELS, build_model
from allukan.models.storage import ModelCard, load_model, save_model

__all__ = ["MODELS", "SIZES", "AllUKAN", "ModelCard", "build_model", "ka_layers", "load_model", "save_model"]
