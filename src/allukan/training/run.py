"""One training, from a configuration to ``RUN/``: the function behind ``allukan train``."""

from __future__ import annotations

import copy
import logging
import sys
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from lightning_fabric.utilities.exceptions import MisconfigurationException
from pytorch_lightning.callbacks import ModelCheckpoint, TQDMProgressBar
from pytorch_lightning.loggers import TensorBoardLogger
from pytorch_lightning.utilities import rank_zero_only

from allukan.data import (
    Dataset,
    Prepared,
    Splits,
    file_channels,
    load_groups,
    names_of_files,
    open_dataset,
    plan_splits,
    prepare,
)
from allukan.errors import UserError
from allukan.files import readable
from allukan.models import ImageFile, ModelCard
from allukan.options import DEFAULT_BATCH, DEFAULT_EPOCHS, IMAGE
from allukan.options.amounts import parse_time, time_text
from allukan.training.batches import BatchOrder, Bytes, batches
from allukan.training.bending import Bending
from allukan.training.callbacks import Averaged, History, KeepBest, LastEpochs, moving
from allukan.training.checks import check_dimensions, check_foreground, check_logits, check_splines, check_steps, warn_of_ignored
from allukan.training.coefficients import Coefficients
from allukan.training.config import TrainConfig, load_config
from allukan.training.initial import take_weights
from allukan.training.likeness import keep_likeness
from allukan.training.losses import usual_dice
from allukan.training.module import SegmentationModule
from allukan.training.pace import Deadline, Estimate, Loaders, measure_pace
from allukan.training.patches import Patches
from allukan.training.planned import planned
from allukan.training.reading import tell_of_reading
from allukan.training.recording import recordable
from allukan.training.resume import check_checkpoint, check_classes
from allukan.training.volume_sets import Sets, read_volumes
from allukan.training.watch import Watch

_log = logging.getLogger("allukan")
_HINTS = (
    "does not have many workers",
    "GPU available but not used",
    "exists and is not empty",
    "smaller than the logging interval",
    "The dirpath has changed",  # a run folder that was moved or copied goes on where it is now
    "when logging on epoch level in distributed setting",  # the validation scores are reduced already
    "is deprecated",
)
_MONITOR = {"clean": "val_iou", "ukan": "val_iou_pooled"}


def train(config: TrainConfig, resume: bool = False, callbacks: Sequence[pl.Callback] = ()) -> Path:
    """Train as ``config`` says and return the run folder.

    Writes ``config.yaml``, ``splits.json``, ``history.csv``, ``last.ckpt``, TensorBoard events and ``model/``, the best epoch on
    validation. With ``resume`` the run continues from ``last.ckpt`` to the same result as if it had never stopped, and to more
    epochs if ``config`` says so. ``callbacks`` of Lightning are called first.

    With ``folds`` and no ``fold`` each of them is a run of its own, ``RUN/fold-0`` and so on; with ``resume`` those that are
    finished stay as they are, the one that was interrupted goes on, and the others start.

    Raises:
        UserError: the data, the options or the machine do not allow it, the run folder is in use, or the loss or the weights
            are no longer finite: what was kept in the epochs before is there still.
    """
    with _quiet():
        if config.folds is None or config.fold is not None:
            return _train(config, resume, callbacks)
        return _train_folds(config, config.folds, resume, callbacks)


def go_on(config: TrainConfig, callbacks: Sequence[pl.Callback] = ()) -> Path:
    """Train, from where it was interrupted if it was begun before."""
    run = Path(config.out)
    resume = (run / "splits.json").is_file()
    if not resume and not rank_zero_only.rank:  # type: ignore[attr-defined]
        for path in (run / "config.yaml", *run.glob(".*.part")):  # of a process that ended before it trained
            path.unlink(missing_ok=True)
    return train(config, resume, callbacks)


def _train_folds(config: TrainConfig, folds: int, resume: bool, callbacks: Sequence[pl.Callback]) -> Path:
    run = Path(config.out)
    if not config.budget:
        config = replace(config, epochs=config.epochs or DEFAULT_EPOCHS)
    if not resume and _trainer(config, run, ()).is_global_zero:
        _check_new(run)
    run.mkdir(parents=True, exist_ok=True)
    config.save(run / "config.yaml")
    share: dict[str, Any] = (
        {"budget": f"{parse_time(config.budget) / folds:.1f}s"} if config.budget else {}
    )  # the time is that of all
    try:
        for number in range(folds):
            go_on(replace(config, out=str(run / f"fold-{number}"), fold=number, **share), callbacks)
    except UserError:
        if not (run / "fold-0" / "splits.json").is_file():  # it could not begin: the next try is a new one
            (run / "config.yaml").unlink(missing_ok=True)
        raise
    except KeyboardInterrupt:
        _log.warning(f"go on with all folds: --out {config.out} --resume.")
        raise
    return run


def _check_new(run: Path) -> None:
    if run.exists() and (not run.is_dir() or any(run.iterdir())):
        raise UserError(f"{run} exists already: choose another --out, or continue that run with --resume.")


def _train(config: TrainConfig, resume: bool, callbacks: Sequence[pl.Callback]) -> Path:
    started, run = time.monotonic(), Path(config.out)
    if readable(config.out) != config.out:  # TensorBoard writes to no such path
        raise UserError(f"--out {readable(config.out)} is not UTF-8 text in this locale: choose another, or set PYTHONUTF8=1.")
    trainer = _trainer(config, run, callbacks)
    resume = _begun(trainer, run, resume)
    dataset = open_dataset(config.data, config.label_rules)
    check_classes(run, dataset)
    splits, notes = _splits(config, dataset, run, resume)
    tell_of_reading(dataset, (*splits.train, *splits.val), trainer.is_global_zero)
    channels = file_channels(dataset)
    check_dimensions(config, dataset.spatial_dims)
    if resume:  # what was planned once holds, and for all processes
        config, explained = config.completed(load_config(run / "config.yaml", {"out": config.out})), ""
    else:
        config, explained = planned(config, dataset, splits, channels, str(trainer.strategy.root_device))
    pl.seed_everything(config.seed, verbose=False)
    card = _card(config, dataset, channels)
    network = card.build()
    check_logits(network, card)
    check_splines(config, network)
    sets = _sets(card, dataset, splits, channels, Path(config.cache) if config.cache else None)
    check_steps(config, network, len(splits.train) * sets.repeats, sum(channels), trainer.world_size)
    card = _normalised(card, sets.train) if isinstance(sets.train, Prepared) and card.in_bytes else card
    config, loss = _with_dice(config, sets)
    loaders = _loaders(trainer, config, sets)
    recorded = recordable(config, trainer.strategy.root_device, trainer.world_size)
    if config.epochs is not None:
        trainer.callbacks.append(Estimate(config.folds or 1))  # type: ignore[attr-defined]
    else:
        pace = measure_pace(
            trainer, SegmentationModule(copy.deepcopy(network), card, config, recorded=recorded), loaders, len(splits.test)
        )
        end = started + parse_time(config.budget or "")
        config = replace(config, epochs=pace.epochs(end - time.monotonic()))
        explained += f" {config.epochs} epochs of about {time_text(pace.epoch)} fit into what reading and evaluation leave of it."
        if trainer.world_size == 1:
            trainer.callbacks.insert(0, Deadline(end - pace.evaluation, run))  # type: ignore[attr-defined]
    epochs = config.epochs or DEFAULT_EPOCHS
    trainer.fit_loop.max_epochs = epochs
    module = SegmentationModule(network, card, config, recorded=recorded)
    last = run / "last.ckpt" if resume and (run / "last.ckpt").is_file() else None  # without one it starts again
    if last and check_checkpoint(last, module) >= epochs:
        return _finished(run, epochs, trainer)
    if config.init and not last:
        take_weights(network, card, config.init, config.init_heads)
    check_foreground(dataset.classes, sets.train, sets.val)
    warn_of_ignored(config, sets.train, sets.val)
    if trainer.is_global_zero:
        _begin(config, splits, [_announcement(config, sets, epochs), *notes, *filter(None, [explained, loss])])
        trainer.strategy.barrier()
    _fit(trainer, module, loaders, last)
    if trainer.is_global_zero:
        keep_likeness(run / "model", config, sets, trainer.strategy.root_device)
    return run


def _begun(trainer: pl.Trainer, run: Path, resume: bool) -> bool:
    """Whether there is something to go on with: for all but the first process what that one writes, for which they wait."""
    if not trainer.is_global_zero:
        trainer.strategy.barrier()  # waits after another fold alone: the processes of the first one are started later
        return True
    if not resume:
        _check_new(run)
    return resume


def _with_dice(config: TrainConfig, sets: Sets) -> tuple[TrainConfig, str]:
    """``config`` with the Dice loss that these images want where it is open, and the reason for an unusual one."""
    if config.dice:
        return config, ""
    dice, why = ("image", "") if config.protocol == "ukan" else usual_dice(sets.train.masks)
    return replace(config, dice=dice), why


def _announcement(config: TrainConfig, sets: Sets, epochs: int) -> str:
    """The first line: what will happen, and how long it will take, or when that is known."""
    kind = "images" if isinstance(sets.train, Prepared) else "volumes"
    fold = f", fold {config.fold} of {config.folds}" if config.fold is not None and config.folds else ""
    time = f"within {time_text(parse_time(config.budget))}" if config.budget else "how long that takes is told after the second"
    return f"training {config.model} on {len(sets.train.ids)} {kind}{fold}: {epochs} epochs, {time}."


def _sets(card: ModelCard, dataset: Dataset, splits: Splits, channels: tuple[int, ...], cache: Path | None) -> Sets:
    if dataset.spatial_dims == 3:
        return read_volumes(card, dataset, splits, channels, cache)
    train, val = (
        prepare(dataset, dataset.select(ids), card.size, channels, card.kept_intensities) for ids in (splits.train, splits.val)
    )
    return Sets(train, val)


def _finished(run: Path, epochs: int, trainer: pl.Trainer) -> Path:
    """Says that a resumed run has had all its epochs."""
    if trainer.is_global_zero:
        trainer.strategy.barrier()
    if not (run / "model" / "config.json").is_file():
        raise UserError(f"{run} has had its {epochs} epochs and left no model: train anew, with a lower --lr perhaps.")
    _log.info(f"nothing is left to do: {run} has had its {epochs} epochs; add --epochs with more to train longer.")
    return run


def _splits(config: TrainConfig, dataset: Dataset, run: Path, resume: bool) -> tuple[Splits, Sequence[str]]:
    """The splits, and what is to be said about them; a resumed run keeps its own."""
    if resume:
        splits = Splits.load(run / "splits.json")
        splits.matches(dataset)
        return splits, ()
    groups = load_groups(dataset, config.groups)
    plan = plan_splits(dataset, config.protocol, config.seed, groups, config.splits, config.fold, folds=config.folds)
    return plan.splits, (f"split: {plan.summary}.", *(f"note: {note}" for note in plan.notes))


def _begin(config: TrainConfig, splits: Splits, sentences: Sequence[str]) -> None:
    """Writes what holds for all processes, and says what will happen."""
    run = Path(config.out)
    run.mkdir(parents=True, exist_ok=True)
    config.save(run / "config.yaml")
    splits.save(run / "splits.json")
    for sentence in sentences:
        _log.info(sentence)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without Lightning's banners and its hints about choices that are made here on purpose; after it all is as before."""
    names = ("pytorch_lightning", "lightning_fabric", "pytorch_lightning.utilities.rank_zero", "lightning.pytorch")
    levels = {log: log.level for log in map(logging.getLogger, names)}
    try:
        with warnings.catch_warnings():
            for log in levels:
                log.setLevel(logging.WARNING)
            for pattern in _HINTS:
                warnings.filterwarnings("ignore", f".*{pattern}.*")
            yield
    finally:
        for log, level in levels.items():
            log.setLevel(level)


def _trainer(config: TrainConfig, run: Path, further: Sequence[pl.Callback]) -> pl.Trainer:
    monitor = _MONITOR[config.protocol]
    checkpoint = ModelCheckpoint(run, filename="last", enable_version_counter=False, save_on_train_epoch_end=True)
    bending = Bending()
    callbacks: list[pl.Callback] = [*further, Watch(), bending, KeepBest(run / "model", monitor, bending)]
    callbacks += [History(run / "history.csv"), Coefficients(run / "coefficients.safetensors")]
    share = moving(config.ema) if config.ema else LastEpochs(config.snapshots) if config.snapshots else None
    callbacks += [Averaged(share), checkpoint] if share else [checkpoint]
    if sys.stderr.isatty():
        callbacks.append(TQDMProgressBar())
    try:
        return pl.Trainer(
            accelerator=config.accelerator,
            devices=config.devices if config.devices == "auto" or not config.devices.isdigit() else int(config.devices),
            precision=_precision(config),  # type: ignore[arg-type]
            benchmark=True if _on_cuda(config) else None,  # every step has the same shapes: cuDNN may try its algorithms once
            max_epochs=config.epochs or DEFAULT_EPOCHS,  # with a budget it is known only later
            callbacks=callbacks,
            logger=TensorBoardLogger(run, name="", version="tensorboard"),
            use_distributed_sampler=False,
            num_sanity_val_steps=0,
            enable_model_summary=False,
            enable_progress_bar=sys.stderr.isatty(),
            log_every_n_steps=1_000_000_000,
        )
    except (MisconfigurationException, ValueError, TypeError, RuntimeError) as error:
        raise UserError(
            f"accelerator {config.accelerator!r} with devices {config.devices!r} is not usable on this machine "
            f"({' '.join(str(error).split())}): try --accelerator cpu --devices 1."
        ) from None


def _precision(config: TrainConfig) -> str:
    """What "auto" means here: bf16 on a GPU that has it, float32 elsewhere."""
    if config.precision != "auto":
        return config.precision
    return "bf16-mixed" if _on_cuda(config) and torch.cuda.is_bf16_supported() else "32-true"


def _on_cuda(config: TrainConfig) -> bool:
    return config.accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available()


def image_files(dataset: Dataset, channels: Sequence[int] = ()) -> tuple[ImageFile, ...]:
    """What makes up an image of a dataset, as a model trained on it will expect it; ``channels`` as in ``file_channels``."""
    channels = tuple(channels) or file_channels(dataset)
    names = names_of_files(dataset.channel_names, channels) or ("",) * len(channels)
    return tuple(ImageFile(*file) for file in zip(dataset.patterns, channels, names, strict=True))


def _card(config: TrainConfig, dataset: Dataset, channels: tuple[int, ...]) -> ModelCard:
    return ModelCard(
        model=config.model,
        in_channels=sum(channels),
        classes=dataset.classes,
        target=dataset.target,
        size=config.size,
        mean=(0.0,) * sum(channels),
        std=(1.0,) * sum(channels),
        options=config.options,
        files=image_files(dataset, channels),
        label_values=dataset.label_values,
        spatial_dims=dataset.spatial_dims,
        normalisation="image" if dataset.spatial_dims == 3 or config.intensities else "training",
        spacing_mm=config.spacing_mm or (),
        intensities=tuple(None if how == IMAGE else how for how in config.intensities),
    )


def _normalised(card: ModelCard, train_set: Prepared) -> ModelCard:
    """With the mean and spread of every channel over the training images."""
    counts = torch.stack([torch.bincount(c.flatten(), minlength=256) for c in train_set.images.unbind(1)]).double()
    levels = torch.arange(256, dtype=torch.float64) / 255
    share = counts / counts.sum(1, keepdim=True)
    mean = share @ levels
    std = (share @ levels.square() - mean.square()).clamp(min=1e-6).sqrt()
    return replace(card, mean=tuple(round(m, 6) for m in mean.tolist()), std=tuple(round(s, 6) for s in std.tolist()))


def _loaders(trainer: pl.Trainer, config: TrainConfig, sets: Sets) -> Loaders:
    loaders, device, batch = [], trainer.strategy.root_device, config.batch_size or DEFAULT_BATCH
    for data in (sets.train, sets.val):
        train = data is sets.train
        if isinstance(data, Prepared):
            held: Bytes | Patches = Bytes(data).to(device)
        else:
            held = Patches(data, config.size, sets.repeats) if train else Patches(data)
        place: dict[str, Any] = {"rank": trainer.global_rank, "world": trainer.world_size, "device": held.device}
        size = batch if train or isinstance(data, Prepared) else 1  # volumes of one size are rare
        order = BatchOrder(len(held.ids), size, config.seed, train=train, **place)
        loaders.append(batches(held, order, device))
    return loaders[0], loaders[1]


def _fit(trainer: pl.Trainer, module: SegmentationModule, loaders: Loaders, last: Path | None) -> None:
    config = module.config
    try:
        trainer.fit(module, *loaders, ckpt_path=last, weights_only=True)
    except OSError as error:
        where = error.filename or config.out
        raise UserError(f"{where} cannot be written ({error.strerror or error}): free space or mend it, then --resume.") from None
    except torch.OutOfMemoryError:
        raise UserError(f"the device has too little memory for batches of {config.batch_size}: lower --batch-size.") from None
    except SystemExit:  # how Lightning ends after Ctrl-C
        _log.warning(f"interrupted after epoch {trainer.current_epoch}: go on with --out {config.out} --resume.")
        raise KeyboardInterrupt from None
