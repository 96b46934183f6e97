"""What the options of a training leave open, planned from its images, the memory and the time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from math import prod
from typing import Any

from allukan.data import Dataset, Splits, deep_note, survey
from allukan.data.fingerprint import Fingerprint
from allukan.errors import UserError
from allukan.options import DEFAULT_BATCH, DEFAULT_EPOCHS, DEFAULT_SIZE, IMAGE
from allukan.options.amounts import memory_text, parse_memory, parse_time
from allukan.training.config import TrainConfig
from allukan.training.planning import (
    Candidate,
    Footprint,
    Given,
    Limits,
    Normalisation,
    Plan,
    available_memory,
    channels_text,
    explain,
    measure_speed,
    normalisations,
    plan,
    size_at,
    target_spacing,
    usual_intensities,
)

_TRIAL = 64  # voxels of a side on which the speed is measured: a step of the largest patch may take a minute on a CPU


def planned(
    config: TrainConfig, dataset: Dataset, splits: Splits, channels: tuple[int, ...], device: str
) -> tuple[TrainConfig, str]:
    """``config`` with size, voxels, batch, strides and intensities as the plan has them where it left them open, and why.

    The number of epochs stays open with a ``budget``, as an epoch can be timed only when the images are there. Pictures are
    planned for with ``memory`` or ``budget`` alone: without them they have the usual size, batch and epochs. Only volumes, and
    pictures some of which have more than 8 bits, have intensities. Raises ``UserError`` as ``survey`` and ``plan`` do, where
    intensities are given for bytes, and where the images alone take all the memory.
    """
    epochs = config.epochs or (None if config.budget else DEFAULT_EPOCHS)
    pictures = dataset.spatial_dims == 2
    note = deep_note([case.images for case in dataset.cases]) if pictures else ""
    if pictures and config.intensities and not note:
        raise UserError(
            f"intensities are of volumes and of pictures of more than 8 bits, and {config.data} holds bytes: leave them out."
        )
    usual: dict[str, Any] = {"size": config.size or DEFAULT_SIZE, "batch_size": config.batch_size or DEFAULT_BATCH}
    usual["epochs"] = epochs
    whole = not pictures or config.memory or config.budget
    if not (whole or note):
        return replace(config, **usual), ""
    found = survey(dataset, dataset.select(splits.train), channels)
    if not whole:
        hows = normalisations(found, config.intensities or usual_intensities(found))
        return replace(config, **usual, intensities=_taken(hows)), f"{note} Intensities: {channels_text(hows)}."
    if note:
        config = replace(config, intensities=config.intensities or usual_intensities(found))
    made = _plan(config, dataset, found, _memory(config, found, splits, device), device)
    changes: dict[str, Any] = {"size": made.patch, "spacing_mm": made.spacing_mm, "batch_size": made.batch_size, "epochs": epochs}
    changes["intensities"] = _taken(made.normalisation) if not pictures or note else ()
    return config.with_topology(made.options, **changes), " ".join(filter(None, [note, explain(made)]))


def _taken(hows: Sequence[Normalisation]) -> tuple[Any, ...]:
    """As the option ``intensities`` has them."""
    return tuple((how.low, how.high, how.mean, how.std) if how.kind == "clip" else IMAGE for how in hows)


def _plan(config: TrainConfig, dataset: Dataset, found: Fingerprint, memory: int, device: str) -> Plan:
    logits = len(dataset.classes) + (dataset.target == "multiclass")
    given = Given(config.size, config.spacing_mm, config.batch_size, config.intensities)
    make = partial(plan, found, dims=dataset.spatial_dims, model=config.model, options=config.options)
    make = partial(make, out_channels=logits, given=given)
    made = make(Limits(memory))
    if not config.budget:
        return made
    footprint = Footprint(config.model, len(found.channels), logits, dataset.spatial_dims, config.options)
    speed = measure_speed(footprint, _trial(made), device)
    return make(Limits(memory, parse_time(config.budget), speed))


def _trial(made: Plan) -> Candidate:
    """A patch of the plan, or a smaller one of as many stages."""
    if prod(made.patch) <= _TRIAL**3:
        return Candidate(made.patch, made.stages)
    sides = zip(made.patch, made.stages.total, strict=True)
    return Candidate(tuple(max(factor, min(side, _TRIAL) // factor * factor) for side, factor in sides), made.stages)


def _memory(config: TrainConfig, found: Fingerprint, splits: Splits, device: str) -> int:
    """Bytes for a step: what volumes take that are kept in the memory of the machine is not left for it."""
    given = parse_memory(config.memory) if config.memory else available_memory(device)
    if found.spatial_dims == 2 or config.cache or not device.startswith("cpu"):
        return given
    voxels = prod(size_at(found, config.spacing_mm or target_spacing(found))) * (len(splits.train) + len(splits.val))
    held = voxels * (4 * len(found.channels) + len(found.classes))
    if held >= given:
        raise UserError(
            f"the volumes alone take about {memory_text(held)} and {memory_text(given)} are given: give more memory, or a "
            "folder by --cache."
        )
    return given - held
