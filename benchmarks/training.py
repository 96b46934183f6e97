"""The real training loop on synthetic ultrasound: images a second, and what is lost outside the steps.

python -m benchmarks.training --help
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from pathlib import Path
from statistics import median
from typing import Annotated

import pytorch_lightning as pl
import torch
from typer import Option

from allukan.data import write_phantoms
from allukan.errors import UserError
from allukan.models import MODELS
from allukan.training import TrainConfig, train
from benchmarks.program import Program, listed
from benchmarks.report import Result, Row
from benchmarks.settings import Settings, at_least
from benchmarks.timing import now

Models = Annotated[Iterable[str], listed("Names of models, separated by commas; the first is the reference.")]


class Clock(pl.Callback):
    """Seconds of every epoch without its validation, and those within it that steps took."""

    def __init__(self, place: torch.device) -> None:
        self.place = place
        self.epochs: list[tuple[float, float, int]] = []  # seconds, seconds of steps, images
        self._epoch = self._step = self._inside = 0.0
        self._images = 0

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Starts the clock of the epoch."""
        self._epoch, self._inside, self._images = now(self.place), 0.0, 0

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: object, batch_idx: int) -> None:
        """Starts the clock of the step."""
        self._step = now(self.place)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: object, batch: tuple, batch_idx: int
    ) -> None:
        """Stops it."""
        self._inside += now(self.place) - self._step
        self._images += len(batch[0])

    def on_validation_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Stops the clock of the epoch: its steps are done."""
        self.epochs.append((now(self.place) - self._epoch, self._inside, self._images))


def bench_training(
    settings: Settings,
    models: Models = ("convtwin-small", "allukan-small"),
    px: Annotated[int, Option(help="Sides of the images.")] = 128,
    batch: Annotated[int, Option(help="Images a step.")] = 8,
    count: Annotated[int, Option(help="Synthetic images.")] = 64,
    epochs: Annotated[int, Option(help="That count; one more goes before.")] = 3,
    cuda_graphs: Annotated[bool, Option(help="On a GPU, replay the passes of networks.")] = True,
) -> Result:
    """The real training loop on synthetic ultrasound: images a second, and the time lost outside the steps.

    Training runs as it does in allukan train; what it writes goes to a temporary folder. Figures are those of the median
    epoch. Refuses what cannot be trained.
    """
    models = list(models)
    if not models:
        raise UserError("no models are given: name some, as convtwin-small,allukan-small.")
    for name in models:
        if name not in MODELS:
            raise UserError(f"unknown model {name!r}: choose one of {', '.join(MODELS)}.")
    for option, value, least in (("batch", batch, 1), ("count", count, 8), ("epochs", epochs, 1), ("px", px, 32)):
        at_least(option, value, least)
    with settings.running(), tempfile.TemporaryDirectory() as folder:
        write_phantoms(Path(folder) / "data", count=count, size=px)
        rows = [_row(name, _clock(name, Path(folder), settings, (px, batch, epochs), cuda_graphs)) for name in models]
    first = rows[0]["epoch_seconds"]
    return Result([{"name": row["name"], "epoch_ratio": row["epoch_seconds"] / first, **row} for row in rows])


def _clock(name: str, folder: Path, settings: Settings, sizes: tuple[int, int, int], cuda_graphs: bool) -> Clock:
    px, batch, epochs = sizes
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
        cuda_graphs=cuda_graphs,
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


program = Program("training", bench_training, without=frozenset({"repeats", "seconds"}))

if __name__ == "__main__":
    program()
