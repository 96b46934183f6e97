"""Whether numbers still are numbers: a training that diverges ends, and nothing of what it ended with is kept."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.nn.utils import get_total_norm

from allukan.errors import UserError
from allukan.training.batches import BatchOrder

_STEPS = 100  # between two looks; an epoch ends with one, before it is validated and saved
_NAMED = 3  # images of a batch that a sentence lists


class Watch(pl.Callback):
    """Raises ``UserError`` when a loss, or a weight or statistic after a step, is not finite, on every rank.

    The first such step is noted on the device, which nothing waits for, and looked at every hundred steps and at the end of
    the epoch: it is named whenever that is. A step that a ``GradScaler`` leaves out leaves weights alone and is none of them.
    """

    def __init__(self) -> None:
        self._fine = self._steps = self._seen = torch.empty(0)
        self._rates: list[float] = []

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Nothing is wrong yet; and which learning rates are those of this epoch."""
        self._rates = sorted({group["lr"] for group in trainer.optimizers[0].param_groups})
        self._fine = torch.ones((), dtype=torch.bool, device=pl_module.device)
        self._steps = torch.zeros((), device=pl_module.device)
        self._seen = torch.zeros(2, device=pl_module.device)

    @torch.no_grad()
    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Compares without reading."""
        loss = outputs["loss"].float()
        self._seen = torch.where(self._fine, torch.stack([loss, largest(pl_module).to(loss.dtype)]), self._seen)
        self._fine = self._seen.isfinite().all()
        self._steps = self._steps + self._fine
        if trainer.is_last_batch or (batch_idx + 1) % _STEPS == 0:
            self._look(trainer, pl_module)

    def _look(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """The only place that waits, together with the other ranks."""
        found = trainer.strategy.all_gather(torch.cat([self._seen, self._steps[None]])).view(-1, 3).tolist()
        bad = {rank: (steps, loss) for rank, (loss, weights, steps) in enumerate(found) if not math.isfinite(loss + weights)}
        if bad:
            step = min(steps for steps, _ in bad.values())
            losses = {rank: loss for rank, (steps, loss) in bad.items() if steps == step}
            raise UserError(self._sentence(trainer, Path(pl_module.config.out), int(step), losses))

    def _sentence(self, trainer: pl.Trainer, run: Path, step: int, losses: dict[int, float]) -> str:
        """One bad loss spoils the weights of every rank and is to blame for them; without one, any of the batches may be."""
        blamed = {rank: loss for rank, loss in losses.items() if not math.isfinite(loss)}
        images = _images(trainer, step, list(blamed or losses))
        what = f"the loss is {next(iter(blamed.values()))} in" if blamed else "the weights are not finite after"
        epoch, steps = trainer.current_epoch, trainer.num_training_batches
        rate = f"learning rate{'s' * (len(self._rates) > 1)} {' and '.join(f'{rate:.3g}' for rate in self._rates)}"
        kept = f"{run} keeps epoch {epoch}" if epoch else "no epoch was finished"
        useful = f", from {run}/model with --init if it is of use" if (run / "model").is_dir() else ""
        return (
            f"{what} epoch {epoch + 1}, step {step + 1} of {steps} (images {images}; {rate}): "
            f"{kept}; train anew with {lower(trainer)}{useful}."
        )


def largest(module: nn.Module) -> Tensor:
    """The largest magnitude among the weights and statistics of a module, a scalar on its device: NaN if one of them is.

    >>> float(largest(nn.BatchNorm1d(2)))
    1.0
    """
    return get_total_norm(
        [tensor for tensor in (*module.parameters(), *module.buffers()) if tensor.is_floating_point()], math.inf
    )


def lower(trainer: pl.Trainer) -> str:
    """What to try when numbers overflow."""
    return "a lower --lr" if str(trainer.precision) == "32-true" else "a lower --lr or --precision 32-true"


def _images(trainer: pl.Trainer, step: int, ranks: list[int]) -> str:
    """Ids of the batches of these ranks in this epoch."""
    loader: Any = trainer.train_dataloader
    order: BatchOrder = loader.sampler
    ids = [loader.dataset.ids[i] for rank in ranks for i in order.of_rank(rank).batch(step)]
    more = len(ids) - _NAMED
    return ", ".join(ids[:_NAMED]) + (f" and {more} more" if more > 0 else "")
