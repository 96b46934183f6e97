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
    """``coefficients.safetensors``: of every layer with sharing "layer" (w, c_1 … c_M) after each epoch, float32 ``(E, M + 1)``.

    They are those of the validated weights: some 60 bytes a layer and epoch, written whole after every epoch.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Adds the epoch, and forgets later ones of a training that was interrupted before it was kept."""
        assert isinstance(pl_module, SegmentationModule)
        layers = {name: layer for name, layer in learned(pl_module.network).items() if layer.spline.sharing == "layer"}
        if not layers or not trainer.is_global_zero:
            return
        epoch = trainer.current_epoch
        before: dict[str, Tensor] = load_file(self.path) if self.path.is_file() and epoch else {}
        rows = {name: _longer(before.get(name), coefficients(layer).float(), epoch) for name, layer in layers.items()}
        with whole(self.path) as part:
            save_file(rows, part)


def _longer(before: Tensor | None, row: Tensor, epoch: int) -> Tensor:
    """The epochs before, NaN where nobody kept them, and a row for this one."""
    rows = row.new_full((epoch, row.shape[1]), torch.nan)
    if before is not None and before.shape[1] == row.shape[1]:
        rows[: len(before)] = before[:epoch]
    return torch.cat([rows, row])
