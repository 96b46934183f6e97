"""How the activations came to be: their coefficients after every epoch, for the slider of the activation atlas."""

from __future__ import annotations

from pathlib import Path

import pytorch_lightning as pl
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from allukan.files import whole
from allukan.nn.bend import coefficients
from allukan.nn.histogram import learned
from allukan.training.module import SegmentationModule


class Coefficients(pl.Callback):
    """``coefficients.safetensors``: of every layer with one activation (w, c_1 … c_M) after each epoch, float32 ``(E, M + 1)``.

    They are those of the validated weights: some 60 bytes a layer and epoch, written whole after every epoch.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Adds the epoch, and forgets later ones of a training that was interrupted before it was kept."""
        assert isinstance(pl_module, SegmentationModule)
        layers = {name: layer for name, layer in learned(pl_module.network).items() if len(layer.coef) == 1}
        if not layers or not trainer.is_global_zero:
            return
        before: dict[str, Tensor] = load_file(self.path) if self.path.is_file() and trainer.current_epoch else {}
        now = {name: coefficients(layer).float() for name, layer in layers.items()}
        rows = {name: torch.cat([before.get(name, row[:0])[: trainer.current_epoch], row]) for name, row in now.items()}
        with whole(self.path) as part:
            save_file(rows, part)
