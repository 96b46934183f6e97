"""``allukan bench train``: the real training loop on synthetic ultrasound, images a second and what is lost outside the steps."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from statistics import median

import pytorch_lightning as pl
import torch

from allukan.bench.measure import Row
from allukan.bench.settings import Settings, at_least
from allukan.data import write_phantoms
from allukan.errors import UserError
from allukan.models import MODELS
from allukan.training import TrainConfig, train


class Clock(pl.Callback):
    """Seconds of every epoch without its validation, and those within it that steps took."""

    def __init__(self, place: torch.device) -> None:
        self.place = place
        self.epochs: list[tuple[float, float, int]] = []  # seconds, seconds of steps, images
        self._epoch = self._step = self._inside = 0.0
        self._images = 0

    def _now(self) -> float:
        if self.place.type == "cuda":
            torch.cuda.synchronize(self.place)  # else the queueing of a step would be timed, not the step
        return time.perf_counter()

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Starts the clock of the epoch."""
        self._epoch, self._inside, self._images = self._now(), 0.0, 0

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: object, batch_idx: int) -> None:
        """Starts the clock of the step."""
        self._step = self._now()

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: object, batch: tuple, batch_idx: int
    ) -> None:
        """Stops it."""
        self._inside += self._now() - self._step
        self._images += len(batch[0])

    def on_validation_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Stops the clock of the epoch: its steps are done."""
        self.epochs.append((self._now() - self._epoch, self._inside, self._images))


def bench_train(
    settings: Settings,
    models: Iterable[str] = ("convtwin-small", "allukan-small"),
    *,
    px: int = 128,
    batch: int = 8,
    count: int = 64,
    epochs: int = 3,
) -> list[Row]:
    """Images a second in the median epoch of each model but its first, and the share of it spent outside the steps.

    ``count`` phantoms are made, ``allukan train`` runs on them as it is, ``epochs`` and one for warming up; what it writes goes
    to a temporary folder. The first model is the reference of the ratio. Raises ``UserError`` for what cannot be trained.
    """
    names = list(models)
    if not names:
        raise UserError("no models are given: name some, as convtwin-small,allukan-small.")
    for name in names:
        if name not in MODELS:
            raise UserError(f"unknown model {name!r}: choose one of {', '.join(MODELS)}.")
    for option, value, least in (("batch", batch, 1), ("count", count, 8), ("epochs", epochs, 1), ("px", px, 32)):
        at_least(option, value, least)
    with settings.running(), tempfile.TemporaryDirectory() as folder:
        write_phantoms(Path(folder) / "data", count=count, size=px)
        rows = [_row(name, _clock(name, Path(folder), settings, px, batch, epochs)) for name in names]
    first = rows[0]["epoch_seconds"]
    return [{"name": row["name"], "epoch_ratio": row["epoch_seconds"] / first, **row} for row in rows]


def _clock(name: str, folder: Path, settings: Settings, px: int, batch: int, epochs: int) -> Clock:
    clock = Clock(settings.place)
    config = TrainConfig(
        data=str(folder / "data"),
        out=str(folder / name),
        model=name,
        size=(px, px),
        epochs=epochs + 1,
        batch_size=batch,
        precision=settings.precision,
        accelerator=settings.place.type,
        devices="1",
        compile=settings.compile,
    )
    train(config, callbacks=[clock])
    return clock


def _row(name: str, clock: Clock) -> Row:
    epochs = clock.epochs[1:]
    return {
        "name": name,
        "images_per_second": round(median(images / seconds for seconds, _, images in epochs), 2),
        "epoch_seconds": median(seconds for seconds, _, _ in epochs),
        "outside_steps_share": median(1 - inside / seconds for seconds, inside, _ in epochs),
        "repeats": len(epochs),
    }
