"""How long an epoch takes on this machine, and how many of them a budget of time has room for."""

from __future__ import annotations

import time
from collections.abc import Callable
from itertools import islice
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from allukan.options.amounts import time_text
from allukan.training.batches import Batch
from allukan.training.bending import IMAGES
from allukan.training.module import SegmentationModule
from allukan.training.parameters import OPTIMIZERS
from allukan.training.planning import epochs_for

if TYPE_CHECKING:
    import pytorch_lightning as pl

_STEPS = 3  # timed, after one that warms up
_EVALUATED = 2.0  # times validation, a case: reading, distances and tables too
_RESERVE = 0.03  # of the time: what is saved every epoch, and steps that were timed in a lucky moment
Loader = DataLoader[Batch]
Loaders = tuple[Loader, Loader]  # of training and of validation


def epochs_within(
    seconds: float, trainer: pl.Trainer, module: SegmentationModule, loaders: Loaders, tests: int
) -> tuple[int, str]:
    """How many epochs fit into ``seconds`` with the evaluation of so many ``tests`` after them, and a sentence on it.

    Steps and validation are timed as they will run; they train ``module``, so give a copy. Raises ``UserError`` where not one
    epoch fits.
    """
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
    images = len(val.dataset.ids)  # type: ignore[attr-defined]
    an_image = a_validation * len(val) / images
    epoch = len(train) * a_step + (images + min(IMAGES, images)) * an_image
    left = max(0.0, (seconds - _EVALUATED * tests * an_image) * (1 - _RESERVE))
    epochs = epochs_for(left, epoch)
    return epochs, f"{epochs} epochs of about {time_text(epoch)} fit into what reading and evaluation leave of it."


def _seconds_a_batch(loader: Loader, act: Callable[[Batch], None], device: torch.device) -> float:
    """Mean over ``_STEPS`` batches, of a loader of fewer some more than once."""
    again = (batch for _ in range(_STEPS + 1) for batch in loader)
    act(_moved(next(again), device))
    started = _now(device)
    for batch in islice(again, _STEPS):
        act(_moved(batch, device))
    return (_now(device) - started) / _STEPS


def _moved(batch: Batch, device: torch.device) -> Batch:
    moved: dict[str, Any] = {name: v.to(device) for name, v in batch._asdict().items() if isinstance(v, Tensor)}
    return batch._replace(**moved)


def _now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()
