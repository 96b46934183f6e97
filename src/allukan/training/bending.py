"""How far activations bend while a network trains, over what they meet in a few validation images."""

from __future__ import annotations

from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor

from allukan.models import middle
from allukan.nn.bend import median_bend
from allukan.nn.histogram import Histogram, collect_inputs, learned
from allukan.training.batches import Batch
from allukan.training.module import SegmentationModule

IMAGES = 8  # a rank: 2 % of an epoch of 400 images, 4 % with an activation a channel


class Bending(pl.Callback):
    """Measures at the end of every validation and logs ``bend``, the median over layers; nothing for a network without splines.

    It goes by the weights that are validated, on the first images of the validation set (of volumes their middle), of every rank.
    ``histograms`` are those of the last validation. They are of a pass of their own, so that a compiled network stays as it was
    compiled.
    """

    def __init__(self) -> None:
        self.histograms: dict[str, Histogram] = {}
        self._images: list[Tensor] = []

    def on_validation_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Forgets the images of the epoch before."""
        self._images = []

    def on_validation_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Batch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Keeps the first images."""
        room = IMAGES - sum(map(len, self._images))
        if room > 0 and not batch.company:
            assert isinstance(pl_module, SegmentationModule)
            self._images.append(middle(batch.images[:room], pl_module.card.size))

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Measures while the validated weights are in place."""
        assert isinstance(pl_module, SegmentationModule)
        network = pl_module.network
        if not learned(network):
            return
        with trainer.precision_plugin.forward_context():
            self.histograms = collect_inputs(network, map(pl_module.normalised, self._images))
        _gather(trainer, self.histograms)
        pl_module.log("bend", torch.tensor(median_bend(network, self.histograms)), rank_zero_only=False)


def _gather(trainer: pl.Trainer, histograms: dict[str, Histogram]) -> None:
    """Sums over the ranks, of all layers at once."""
    for part in ("counts", "beyond"):
        tensors = [getattr(found, part) for found in histograms.values()]
        total = trainer.strategy.reduce(torch.cat([t.flatten() for t in tensors]), reduce_op="sum")
        assert isinstance(total, Tensor)
        for tensor, values in zip(tensors, total.split([t.numel() for t in tensors]), strict=True):
            tensor.copy_(values.view_as(tensor))
