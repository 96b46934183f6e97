"""Models of random weights, without a training, and what visitors send them."""

import numpy as np
import pytest
import torch
from PIL import Image

from allukan.inference import Predictor
from allukan.models import ModelCard, save_model
from tests.volume_sets import blob, save

PICTURE = {"in_channels": 1, "size": (32, 32), "mean": (0.5,), "std": (0.25,)}
VOLUME = {"in_channels": 1, "size": (16, 16, 16), "mean": (0.0,), "std": (1.0,), "spatial_dims": 3, "normalisation": "image"}


def made(folder, target="binary", classes=("lesion",), seed=0, **given):
    """A model folder whose answer changes from pixel to pixel, on both sides of every threshold."""
    torch.manual_seed(seed)
    card = ModelCard("convtwin-tiny", target=target, classes=classes, **given)
    network = card.build().eval()
    for module in network.modules():
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
            module.running_mean.normal_(0, 0.3)
            module.running_var.uniform_(0.5, 2)
    with torch.no_grad():
        last = list(network.head.children())[-1]
        last.weight.mul_(5)
        last.bias -= network(torch.randn(1, 1, *card.size)).mean(dim=(0, *range(2, 2 + card.spatial_dims)))
    return save_model(folder / "model", network, card)


@pytest.fixture(scope="session")
def folders(tmp_path_factory):
    """Model folders by name."""
    root = tmp_path_factory.mktemp("models")
    return {
        "binary": made(root / "binary", **PICTURE),
        "other": made(root / "other", seed=1, **PICTURE),
        "overlapping": made(root / "overlapping", "multilabel", ("a", "b"), **PICTURE),
        "volume": made(root / "volume", "multiclass", ("a", "b"), label_values=(3, 7), spacing_mm=(1.0, 1.0, 1.0), **VOLUME),
        "thresholded": made(root / "thresholded", spacing_mm=(1.0, 1.0, 1.0), threshold=0.6, **VOLUME),
    }


@pytest.fixture(scope="session")
def predictors(folders):
    return {name: Predictor(folder, "cpu") for name, folder in folders.items()}


@pytest.fixture
def picture(tmp_path):
    """A smooth picture of 40×60 pixels."""
    coarse = Image.fromarray(np.random.default_rng(0).integers(0, 256, (5, 4), dtype=np.uint8))
    path = tmp_path / "sent" / "scan.png"
    path.parent.mkdir()
    coarse.resize((60, 40), Image.Resampling.BICUBIC).save(path)
    return path


@pytest.fixture
def volume(tmp_path):
    """A NIfTI of 12×14×10 voxels of 0.8×0.8×2 mm."""
    array, _ = blob(np.random.default_rng(0), (12, 14, 10))
    return save(tmp_path / "sent" / "head.nii.gz", array, np.diag([0.8, 0.8, 2.0, 1.0]))
