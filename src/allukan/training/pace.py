"""How long an epoch takes on this machine, and how many of them a budget of time has room for."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from allukan.models.inputs_met import MOST
from allukan.options.amounts import time_text
from allukan.training.batches import Batch
from allukan.training.bending import IMAGES
from allukan.training.module import SegmentationModule
from allukan.training.parameters import OPTIMIZERS, stretch
from allukan.training.planning import epochs_for, now

_log = logging.getLogger("allukan")
_STEPS = 3  # timed, after one that warms up
_EVALUATED = 2.0  # times validation, a case: reading, distances and tables too
_MORE = 1.1  # times the epochs that were planned, from which there are to be more
_LONG = 60.0  # seconds of a first epoch, after which its steps are told
_WORTH_TELLING = 5.0  # seconds
_RESERVE = 0.03  # of the time: what is saved every epoch, and steps that were timed in a lucky moment
Loader = DataLoader[Batch]
Loaders = tuple[Loader, Loader]  # of training and of validation


class Pace(NamedTuple):
    """Seconds that an epoch takes with its validation, and what comes after the last: likeness, and the evaluation."""

    epoch: float
    evaluation: float

    def epochs(self, seconds: float) -> int:
        """How many fit, the evaluation after them; ``UserError`` where not one does."""
        return epochs_for(max(0.0, (seconds - self.evaluation) * (1 - _RESERVE)), self.epoch)


def measure_pace(trainer: pl.Trainer, module: SegmentationModule, loaders: Loaders, tests: int) -> Pace:
    """Times steps and validation as they will run; they train ``module``, so give a copy. ``tests`` are cases to evaluate."""
    device = trainer.strategy.root_device
    module = module.to(device).train()
    optimizer = OPTIMIZERS[module.config.optimizer](module.parameter_groups())

    def step(batch: Batch) -> None:
        with trainer.precision_plugin.forward_context():
            loss = module.loss_of(batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    def validate(batch: Batch) -> None:
        with trainer.precision_plugin.forward_context(), torch.no_grad():
            module.loss(module.logits_of(batch), batch.masks)

    train, val = loaders
    with torch.random.fork_rng():
        a_step = _seconds_a_batch(train, step, device)
        module.eval()
        a_validation = _seconds_a_batch(val, validate, device)
    module.release()
    images = len(val.dataset.ids)  # type: ignore[attr-defined]
    an_image = a_validation * len(val) / images
    epoch = len(train) * a_step + (images + min(IMAGES, images)) * an_image
    return Pace(epoch, (_EVALUATED * tests + min(MOST, images)) * an_image)


class Deadline(pl.Callback):
    """Goes by how long epochs take, where a machine does not stay as fast as it was when it was measured.

    Epochs that no longer fit are left out at any time; in the first half, where the learning rate is high, there may be more.
    The cosine is then that of the new length, which the ``config.yaml`` of the run has: a resumed run keeps it.
    """

    def __init__(self, end: float, run: Path) -> None:
        self.end, self.run, self._started = end, run, 0.0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Starts the clock."""
        self._started = time.monotonic()

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """The learning rate of this epoch by the length that the training has now."""
        schedule = pl_module.lr_schedulers()
        assert isinstance(schedule, torch.optim.lr_scheduler.CosineAnnealingLR)
        stretch(schedule, trainer.max_epochs or 1)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Compares what is left with what an epoch has taken so far."""
        assert isinstance(pl_module, SegmentationModule)
        config, now, done = pl_module.config, time.monotonic(), trainer.current_epoch + 1
        fit = done + int(max(0.0, self.end - now) * done / (now - self._started))
        fit = max(fit, config.snapshots, int(config.warmup) + 1)
        planned = trainer.max_epochs or 0
        if fit < planned or (fit > _MORE * planned and 2 * done <= planned + 1):
            _log.info(f"epochs take {'longer' if fit < planned else 'less time'} than was measured: {fit} instead of {planned}.")
            trainer.fit_loop.max_epochs = fit
            pl_module.config = replace(config, epochs=fit)
            pl_module.config.save(self.run / "config.yaml")


class Estimate(pl.Callback):
    """Says once how long all epochs take, of a training that is not told by a budget.

    After the second epoch, because the first one compiles; within it, by the steps so far, where it takes longer than a minute.
    """

    def __init__(self, folds: int = 1) -> None:
        self.folds = folds
        self._epochs, self._told, self._steps = 0, False, 0
        self._started = 0.0  # of the epoch, or of the second step in the first one

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Starts the clock."""
        self._started, self._steps = time.monotonic(), 0

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """By steps alone, where an epoch is long."""
        self._steps += 1
        if self._told or self._epochs:
            return
        if self._steps == 1:
            self._started = time.monotonic()
        elif (seconds := time.monotonic() - self._started) > _LONG:
            self._tell(trainer, seconds / (self._steps - 1) * trainer.num_training_batches, ", validation aside")

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """By a whole epoch, validation included."""
        self._epochs += 1
        if self._epochs == 2 and not self._told:
            self._tell(trainer, time.monotonic() - self._started)

    def _tell(self, trainer: pl.Trainer, epoch: float, but: str = "") -> None:
        self._told = True
        left = (trainer.max_epochs or 0) - trainer.current_epoch - (self._epochs > 0)
        seconds, epoch = (float(f"{value:.2g}") for value in (epoch * left, epoch))
        if trainer.is_global_zero and seconds >= _WORTH_TELLING:
            every = "; every fold takes as long" if self.folds > 1 else ""
            _log.info(f"about {time_text(seconds)} to go: {left} epochs of {time_text(epoch)}{but}{every}.")


def _seconds_a_batch(loader: Loader, act: Callable[[Batch], None], device: torch.device) -> float:
    """Mean over ``_STEPS`` batches, of a loader of fewer some more than once."""
    again = (batch for _ in range(_STEPS + 1) for batch in loader)
    act(_moved(next(again), device))
    started = now(device)
    for batch in islice(again, _STEPS):
        act(_moved(batch, device))
    return (now(device) - started) / _STEPS


def _moved(batch: Batch, device: torch.device) -> Batch:
    moved: dict[str, Any] = {name: v.to(device) for name, v in batch._asdict().items() if isinstance(v, Tensor)}
    return batch._replace(**moved)
