"""One training of the proxy: a plain loop, so that a candidate is a few lines and a run a few minutes."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from allukan.models import build_model
from allukan.training.augmentation import augment
from allukan.training.losses import SegmentationLoss
from allukan.training.parameters import parameter_groups
from benchmarks.proxy.slices import Slices, subject_dice
from benchmarks.proxy.tricks import TRICKS, Training

_EVALUATED = 64  # slices at a time


@dataclass(frozen=True)
class Row:
    """What a candidate trains and how; every row has the same slices, steps and schedule unless it says otherwise.

    ``against`` is the row that it is compared with.
    """

    model: str = "allukan-tiny"
    options: dict[str, Any] = field(default_factory=dict)
    tricks: dict[str, Any] = field(default_factory=dict)
    epochs: int = 8
    batch: int = 16
    lr: float = 3e-3
    spline_lr: float | None = None
    weight_decay: float = 1e-4
    spline_decay: float = 0.0
    ema: float = 0.995
    warmup: int = 100  # steps
    augment: tuple[str, ...] = ("affine", "elastic", "intensity")
    decoupled: bool = False
    dice: str = "batch"
    against: str = ""


def run(row: Row, data: dict[str, Slices], seed: int) -> dict[str, Any]:
    """Train with one seed; scores a subject and class of the averaged weights, the curve of the loss, and times."""
    torch.manual_seed(seed)
    network = build_model(row.model, in_channels=1, out_channels=3, **row.options)
    train, started = data["train"], time.perf_counter()
    mean, std = (float(f(train.images.float())) / 255 for f in (torch.mean, torch.std))
    tricks = [TRICKS[name](value) for name, value in row.tricks.items()]
    for trick in tricks:
        trick.build(network)
    steps = row.epochs * (len(train.images) // row.batch)
    training = Training(network, copy.deepcopy(network), _optimizer(network, row), steps)
    averaged, optimizer = training.averaged, training.optimizer
    loss_of, curve, losses = SegmentationLoss("multiclass", row.dice), [], []
    for step, (images, masks) in enumerate(_batches(train, row, seed)):
        _schedule(optimizer, row, step, steps)
        training.step = step
        for trick in tricks:
            trick.before(training)
        x, masks = augment(images, masks, row.augment, seed * 1_000_003 + step) if row.augment else (images, masks)
        network.train()
        loss = loss_of(network((x.float() / 255 - mean) / std), masks)
        total = loss + sum(trick.penalty(network) for trick in tricks)
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
        _average(averaged, network, min(row.ema, (1 + step) / (10 + step)))
        if (step + 1) % (steps // row.epochs) == 0:
            curve.append(sum(losses) / len(losses))
            losses = []
    seconds = time.perf_counter() - started
    found = {name: _scores(averaged, data[name], mean, std) for name in ("val", "test")}
    return {"scores": found, "curve": curve, "seconds": seconds, "steps": steps, "network": averaged, "scale": (mean, std)}


def _optimizer(network: nn.Module, row: Row) -> torch.optim.Optimizer:
    groups = parameter_groups(network, row.lr, row.weight_decay, row.spline_lr or row.lr, row.spline_decay)
    for group in groups:
        group["peak"] = group["lr"]
    return (torch.optim.AdamW if row.decoupled else torch.optim.Adam)(groups, fused=True)


def _schedule(optimizer: torch.optim.Optimizer, row: Row, step: int, steps: int) -> None:
    """A cosine to 1 % a step, after a linear warm-up."""
    up = min(1.0, (step + 1) / row.warmup) if row.warmup else 1.0
    down = 0.01 + 0.99 * (1 + math.cos(math.pi * step / steps)) / 2
    for group in optimizer.param_groups:
        group["lr"] = group["peak"] * up * down


def _batches(train: Slices, row: Row, seed: int) -> Iterator[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(seed)
    for _ in range(row.epochs):
        order = torch.randperm(len(train.images), generator=generator)
        for chosen in order[: len(order) // row.batch * row.batch].split(row.batch):
            yield train.images[chosen], train.masks[chosen]


@torch.no_grad()
def _average(averaged: nn.Module, network: nn.Module, decay: float) -> None:
    pairs = list(zip(averaged.state_dict().values(), network.state_dict().values(), strict=True))
    old, new = zip(*(pair for pair in pairs if pair[0].is_floating_point()), strict=True)
    torch._foreach_lerp_(list(old), list(new), 1 - decay)


@torch.no_grad()
def predictions(network: nn.Module, data: Slices, mean: float, std: float) -> Tensor:
    """Masks of the two classes, bool ``(N, 2, 48, 48)``."""
    network.eval()
    parts = [network((x.float() / 255 - mean) / std).argmax(1) for x in data.images.split(_EVALUATED)]
    return torch.stack([torch.cat(parts) == k for k in (1, 2)], 1)


def _scores(network: nn.Module, data: Slices, mean: float, std: float) -> list[list[float]]:
    dice = subject_dice(predictions(network, data, mean, std), data.masks, data.subjects)
    return [[round(v, 6) for v in one] for one in dice.tolist()]
