"""Segmentation networks, how to build, save and load them, and how to read their output."""

from allukan.models.allukan import AllUKAN, ka_layers
from allukan.models.devices import pick_device
from allukan.models.factory import MODELS, build_model, model_options
from allukan.models.foreign import check_trust, is_foreign
from allukan.models.inputs_met import calibrate_likeness, load_histograms, load_likeness, save_histograms, save_likeness
from allukan.models.norms import check_norms
from allukan.models.outputs import probabilities, to_masks
from allukan.models.pretrained import readme
from allukan.models.skeleton import UShape
from allukan.models.sliding import middle, slide
from allukan.models.storage import ImageFile, ModelCard, load_card, load_model, not_finite, outline_saved, save_model
from allukan.models.topology import SIZES, Topology
from allukan.models.ukan import UKAN

__all__ = [
    "MODELS",
    "SIZES",
    "UKAN",
    "AllUKAN",
    "ImageFile",
    "ModelCard",
    "Topology",
    "UShape",
    "build_model",
    "calibrate_likeness",
    "check_norms",
    "check_trust",
    "is_foreign",
    "ka_layers",
    "load_card",
    "load_histograms",
    "load_likeness",
    "load_model",
    "middle",
    "model_options",
    "not_finite",
    "outline_saved",
    "pick_device",
    "probabilities",
    "readme",
    "save_histograms",
    "save_likeness",
    "save_model",
    "slide",
    "to_masks",
]
