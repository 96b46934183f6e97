"""What a training leaves behind: the best model, and one row of figures an epoch."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import WeightAveraging
from torch import Tensor, nn

from allukan.errors import UserError
from allukan.files import write_table
from allukan.models import save_histograms, save_model
from allukan.models.inputs_met import LIKENESS
from allukan.training.bending import Bending
from allukan.training.module import SegmentationModule
from allukan.training.watch import lower

FIGURES = ("train_", "val_", "bend")

_log = logging.getLogger("allukan")


class KeepBest(pl.Callback):
    """Writes ``folder`` whenever ``monitor`` is the highest so far, with what activations met; what was best survives a resume.

    An epoch whose ``monitor`` or ``val_loss`` is not finite is never the best, and a training without another one ends with
    ``UserError``. Where validation has no foreground at all, scores say nothing, and the last epoch is kept.
    """

    def __init__(self, folder: Path, monitor: str, bending: Bending) -> None:
        self.folder, self.monitor, self.bending = folder, monitor, bending
        self.score, self.epoch = -math.inf, -1

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Compare, and save on the first rank."""
        assert isinstance(pl_module, SegmentationModule)
        score = float(trainer.callback_metrics[self.monitor])
        if not math.isfinite(score + float(trainer.callback_metrics["val_loss"])):
            if trainer.is_global_zero:
                _log.warning(f"epoch {trainer.current_epoch + 1}: validation is not finite, so this epoch is not kept.")
            return
        if score <= self.score and not is_blind(trainer):
            return
        self.score, self.epoch = score, trainer.current_epoch
        if trainer.is_global_zero:
            (self.folder / LIKENESS).unlink(missing_ok=True)  # of the weights before
            save_model(self.folder, pl_module.network, pl_module.card)
            if self.bending.histograms:
                save_histograms(self.folder, self.bending.histograms)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """There must be a model now."""
        if self.epoch < 0:
            raise UserError(
                f"validation was not finite in any epoch, so {self.folder} was never written: train anew with {lower(trainer)}."
            )

    def state_dict(self) -> dict[str, Any]:
        """Goes into ``last.ckpt``."""
        return {"score": self.score, "epoch": self.epoch}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Comes from ``last.ckpt``."""
        self.score, self.epoch = state_dict["score"], state_dict["epoch"]


def is_blind(trainer: pl.Trainer) -> bool:
    """Whether no validation mask has any foreground."""
    loader: Any = trainer.val_dataloaders
    return not any(loader.dataset.foreground)


Share = Callable[[pl.Trainer], float]


def moving(decay: float) -> Share:
    """An exponential moving average over all steps.

    Its decay grows to ``decay`` as (1 + n) / (10 + n) over the steps n, so that the start is forgotten in a short training too.
    """
    return lambda trainer: 1 - min(decay, (1 + trainer.global_step) / (10 + trainer.global_step))


class LastEpochs:
    """The mean of what the last ``count`` epochs end with, so far; before them what every epoch ends with.

    Of a training that gets longer when it has begun the mean starts anew; of one that gets shorter it is of those that it has.
    """

    def __init__(self, count: int) -> None:
        self.count, self.since = count, -1

    def __call__(self, trainer: pl.Trainer) -> float:
        """What share of the mean the last epoch becomes."""
        if not trainer.is_last_batch:
            return 0.0
        epoch, first = trainer.current_epoch, (trainer.max_epochs or 0) - self.count
        if epoch <= first or self.since < max(0, first):
            self.since = epoch
        return 1 / (1 + epoch - self.since)


class Averaged(WeightAveraging):
    """Validates and keeps an average of all weights and statistics instead of their last values.

    ``share`` says after every step how much of the average the weights become: all with 1, nothing with 0.
    """

    def __init__(self, share: Share) -> None:
        super().__init__(use_buffers=True)
        self.share = share

    def state_dict(self) -> dict[str, Any]:
        """Goes into ``last.ckpt``."""
        since = {"since": self.share.since} if isinstance(self.share, LastEpochs) else {}
        return {**super().state_dict(), **since}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Comes from ``last.ckpt``; those of older versions do not say since when the mean is."""
        super().load_state_dict(state_dict)
        if isinstance(self.share, LastEpochs):
            self.share.since = state_dict.get("since", -1)

    @torch.no_grad()
    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Averages after an optimiser step; torch's ``AveragedModel`` would read a counter from the device at every tensor."""
        if trainer.global_step == self._latest_update_step or not (share := self.share(trainer)):
            return
        self._latest_update_step = trainer.global_step
        assert self._average_model is not None
        pairs = list(zip(_tensors(self._average_model.module), _tensors(pl_module), strict=True))
        floats = [pair for pair in pairs if pair[0].is_floating_point()]
        averaged, current = map(list, zip(*floats, strict=True))
        torch._foreach_lerp_(averaged, current, share)
        for counter, value in pairs:
            if not counter.is_floating_point():
                counter.copy_(value)

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """The average stays in place until it has been saved."""

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Back to the weights that are trained."""
        super().on_validation_epoch_end(trainer, pl_module)


def _tensors(module: nn.Module) -> list[Tensor]:
    return [*module.parameters(), *module.buffers()]


class History(pl.Callback):
    """``history.csv``: epoch, lr, train_loss, the validation scores, bend where there are splines, and seconds.

    It is rewritten whole after every epoch. Epochs of a version that did not measure a figure have none.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows: list[dict[str, float]] = []
        self._started = self._lr = 0.0

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Starts the clock and notes the learning rate."""
        assert isinstance(pl_module, SegmentationModule)
        groups = trainer.optimizers[0].param_groups
        own = [group["lr"] for group in groups if group["initial_lr"] == pl_module.config.lr]  # not that of splines
        self._started, self._lr = time.perf_counter(), float([*own, groups[0]["lr"]][0])

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Adds the row of the epoch, validation included."""
        figures = {name: float(value) for name, value in trainer.callback_metrics.items() if name.startswith(FIGURES)}
        seconds = time.perf_counter() - self._started
        self.rows.append({"epoch": trainer.current_epoch + 1, "lr": self._lr, **figures, "seconds": round(seconds, 3)})
        if trainer.is_global_zero:
            self._write()
            loss, dice, iou = (figures[name] for name in ("train_loss", "val_dice", "val_iou"))
            last = trainer.max_epochs
            epoch = trainer.current_epoch + 1
            scores = "no foreground in validation" if is_blind(trainer) else f"val Dice {dice:.4f}  val IoU {iou:.4f}"
            _log.info(f"epoch {epoch}/{last}  loss {loss:.4f}  {scores}  {seconds:.1f} s")

    def _write(self) -> None:
        unknown = dict.fromkeys(self.rows[-1], math.nan)
        write_table(self.path, [{**unknown, **row} for row in self.rows])

    def state_dict(self) -> dict[str, Any]:
        """Goes into ``last.ckpt``."""
        return {"rows": self.rows}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Comes from ``last.ckpt``."""
        self.rows = list(state_dict["rows"])
