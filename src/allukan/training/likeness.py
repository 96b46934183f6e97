"""What the best model meets in validation images, kept with it for ``allukan predict``: by that images unlike them are told."""

from __future__ import annotations

from pathlib import Path

import torch

from allukan.models import calibrate_likeness, load_model, middle
from allukan.nn.histogram import learned
from allukan.training.config import TrainConfig
from allukan.training.module import SegmentationModule
from allukan.training.volume_sets import Sets


def keep_likeness(folder: Path, config: TrainConfig, sets: Sets, device: torch.device) -> None:
    """Write ``likeness.safetensors`` into the model folder of a training that has ended, where there are images enough.

    Of pictures as a whole, of volumes from a window in their middle: at most 200 evaluations of the network.
    """
    network, card = load_model(folder, device, trust=True)  # it was built from the same name before
    if not learned(network):
        return
    module = SegmentationModule(network, card, config).to(device)
    held = sets.val.images

    def image(place: int) -> torch.Tensor:
        found = held[place] if isinstance(held, torch.Tensor) else torch.from_numpy(held[place].array)
        return module.normalised(middle(found.unsqueeze(0), card.size).to(device))

    calibrate_likeness(folder, network, len(held), image)
