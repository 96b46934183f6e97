"""The Lightning module: forward, loss, optimiser, validation scores."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from allukan.models import ModelCard, UShape, probabilities, slide, to_masks
from allukan.training.augmentation import augment, turn
from allukan.training.batches import Batch
from allukan.training.config import TrainConfig
from allukan.training.losses import SegmentationLoss, deep_loss, overlap, split_ignored
from allukan.training.parameters import OPTIMIZERS, parameter_groups, roughness, stretch, warming
from allukan.training.recording import Recorded

_SCORES = ("loss", "dice", "iou", "iou_pooled")


class SegmentationModule(pl.LightningModule):
    """Trains ``network`` on batches of bytes, normalised here, on the device; or on floats (volumes, 16 bits), which are already.

    Logs, an epoch, ``train_loss``, ``val_loss``, ``val_dice`` and ``val_iou`` (means over images and classes; 1 where
    prediction and truth are both empty) and ``val_iou_pooled`` (intersection over union of each batch, U-KAN's figure). All are
    summed on the device, and no step waits for it: a GPU always has work queued. Volumes are validated by a sliding window.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, network: nn.Module, card: ModelCard, config: TrainConfig, *, recorded: bool = False) -> None:
        super().__init__()
        self.network, self.card, self.config = network, card, config
        self.loss = SegmentationLoss(card.target, config.dice or "image")
        if config.compile:
            network.compile()
        levels: Callable[[Tensor], Sequence[Tensor]] = self._single
        if isinstance(network, UShape) and len(network.heads):
            levels = torch.compile(network.levels) if config.compile else network.levels
        self._levels = Recorded(network, levels) if recorded else levels
        for name in ("mean", "std"):
            values = torch.tensor(getattr(card, name), dtype=torch.float32).view(1, -1, *[1] * card.spatial_dims)
            self.register_buffer(name, values, persistent=False)
        self._sums: Tensor | None = None
        self._losses: Tensor | None = None

    def forward(self, images: Tensor) -> Tensor:
        """Images ``(B, C, *S)`` → logits ``(B, K', *S)``."""
        return self.network(self.normalised(images))

    def normalised(self, images: Tensor) -> Tensor:
        """Images of a batch → what the network is given."""
        images = images.to(self.mean.dtype)
        return (images / 255 - self.mean) / self.std if self.card.in_bytes else images

    def on_train_epoch_start(self) -> None:
        """Sum of the losses of the epoch and their number."""
        self._losses = torch.zeros(2, device=self.device)

    def training_step(self, batch: Batch, index: int) -> Tensor:
        """Loss of one augmented batch."""
        loss = self.loss_of(batch)
        assert self._losses is not None
        self._losses += torch.stack([loss.detach(), loss.new_ones(())]).to(self._losses.dtype)
        if self.trainer.is_last_batch:  # the mean over all batches, which are of one size
            mean = self._losses[0] / self._losses[1]
            self.log("train_loss", mean, on_step=False, on_epoch=True, prog_bar=True, batch_size=1, sync_dist=True)
        return loss + self.config.spline_smoothness * roughness(self.network) if self.config.spline_smoothness else loss

    def loss_of(self, batch: Batch) -> Tensor:
        """Of one augmented batch, without the roughness of splines."""
        torch.manual_seed(batch.seed)  # of stochastic depth: after a resume it goes on as it would have
        return self._supervised(*self._augmented(batch))

    def logits_of(self, batch: Batch) -> Tensor:
        """Of images as they are validated: pictures whole, volumes by a sliding window."""
        return slide(self, batch.images, self.card.size) if self.card.spatial_dims == 3 else self(batch.images)

    def _single(self, images: Tensor) -> list[Tensor]:
        return [self.network(images)]

    def _supervised(self, images: Tensor, masks: Tensor) -> Tensor:
        return deep_loss(self.loss, self._levels(self.normalised(images)), masks)

    def _augmented(self, batch: Batch) -> tuple[Tensor, Tensor]:
        images, masks = (batch.images, batch.masks) if batch.turns is None else turn(batch.images, batch.masks, batch.turns)
        return augment(images, masks, self.config.augment, batch.seed) if self.config.augment else (images, masks)

    def on_validation_epoch_start(self) -> None:
        """Sums over images of every score, and their number, gathered on the device without a synchronisation a step."""
        self._sums = torch.zeros(len(_SCORES) + 1, device=self.device)

    def validation_step(self, batch: Batch, index: int) -> None:
        """Adds the scores of one batch."""
        assert self._sums is not None
        logits = self.logits_of(batch)
        truth, counts = split_ignored(batch.masks)
        masks = to_masks(probabilities(logits, self.card.target), self.card.target, self.card.threshold)
        both, either = overlap(masks & counts, truth)
        iou = torch.where(either > 0, both / either.clamp(min=1), 1.0)
        pooled = (both.sum() + 1e-5) / (either.sum() + 1e-5)  # over images and classes, as ``pooled_iou``
        scores = (self.loss(logits, batch.masks), (2 * iou / (1 + iou)).mean(), iou.mean(), pooled)
        count = 0 if batch.company else len(truth)
        self._sums += torch.stack([*scores, iou.new_ones(())]).to(self._sums.dtype) * count

    def on_validation_epoch_end(self) -> None:
        """Means over all images of all ranks."""
        sums = self.trainer.strategy.reduce(self._sums, reduce_op="sum")
        assert isinstance(sums, Tensor)
        for name, value in zip(_SCORES, sums[:-1] / sums[-1], strict=True):
            self.log(f"val_{name}", value.float(), prog_bar=name == "dice", rank_zero_only=False)

    def on_train_start(self) -> None:
        """A resumed run that is to be longer than it was: its cosine is that of the new length from here on."""
        schedule = self.lr_schedulers()
        assert isinstance(schedule, torch.optim.lr_scheduler.CosineAnnealingLR)
        stretch(schedule, self.trainer.max_epochs or 1)

    def on_train_end(self) -> None:
        """Gives back what recorded passes hold."""
        self.release()

    def release(self) -> None:
        """Frees the memory of recorded passes, if there are any: the next batch would record them anew."""
        if isinstance(self._levels, Recorded):
            self._levels.release()

    def optimizer_step(self, epoch: int, batch_idx: int, optimizer: Any, optimizer_closure: Any = None) -> None:
        """In the warm-up step n of N takes n/N of the learning rates, of which the cosine knows nothing."""
        steps = self.config.warmup * self.trainer.num_training_batches
        share = min(1.0, (self.trainer.global_step + 1) / steps) if steps else 1.0
        with warming(optimizer, share):
            super().optimizer_step(epoch, batch_idx, optimizer, optimizer_closure)

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Which parameters learn and decay how."""
        c = self.config
        return parameter_groups(self.network, c.lr or 0.0, c.weight_decay, c.spline_lr or 0.0, c.spline_decay)

    def configure_optimizers(self) -> Any:
        """Adam or AdamW on the groups of ``parameter_groups``; every learning rate by a cosine to 1e-5 over the epochs."""
        groups = self.parameter_groups()
        fused = self.device.type in ("cpu", "cuda")  # one kernel, and no step counter that the host has to read
        optimizer = OPTIMIZERS[self.config.optimizer](groups, fused=fused)
        floor = min(1e-5, *(group["lr"] for group in groups))
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, self.trainer.max_epochs or 1, eta_min=floor)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "epoch"}}
