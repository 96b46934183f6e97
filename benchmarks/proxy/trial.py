"""One training of the proxy: a plain loop, so that a candidate is a few lines and a run a few minutes."""

from __future__ import annotations

import copy
import math
import time
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from allukan.models import UShape, build_model
from allukan.training.augmentation import augment, turn
from allukan.training.losses import SegmentationLoss, deep_loss
from allukan.training.parameters import parameter_groups
from benchmarks.proxy.slices import Slices, subject_dice
from benchmarks.proxy.tricks import TRICKS, Training

_EVALUATED = {"cpu": 64, "cuda": 512}  # slices at a time


@dataclass(frozen=True)
class Row:
    """What a candidate trains and how; every row has the same slices, steps and schedule unless it says otherwise.

    ``against`` is the row that it is compared with.
    """

    model: str = "allukan-tiny"
    options: dict[str, Any] = field(default_factory=dict)
    tricks: dict[str, Any] = field(default_factory=dict)
    epochs: int = 8
    steps: int = 0  # instead of epochs
    batch: int = 16
    lr: float = 3e-3
    spline_lr: float | None = None
    weight_decay: float = 1e-4
    spline_decay: float = 0.0
    ema: float = 0.995
    warmup: int = 100  # steps
    turns: bool = False  # by quarters, and mirrored
    augment: tuple[str, ...] = ("affine", "elastic", "intensity")
    decoupled: bool = False
    dice: str = "batch"
    against: str = ""


class Trial:
    """A training under way. What a step needs lies on the device, its number too, so that a CUDA graph can repeat it."""

    def __init__(self, row: Row, data: dict[str, Slices], seed: int, device: str = "cpu") -> None:
        self.row, self.started = row, time.perf_counter()
        self.data = {name: part.to(device) for name, part in data.items()}
        train = self.data["train"]
        self.mean, self.std = (float(f(train.images.float())) / 255 for f in (torch.mean, torch.std))
        network, self.tricks = _build(row, train, seed)
        network.to(device).train()
        self.order = _order(len(train.images), row, seed).to(device)
        self.steps = len(self.order)
        self.training = Training(network, copy.deepcopy(network), _optimizer(network, row, device), self.steps)
        self.moments = {trick: trick.moments(self.steps) for trick in self.tricks}
        self.done = torch.zeros(1, dtype=torch.int64, device=device)
        self.rates, self.decays = _rates(row, self.steps).to(device), _decays(row, self.steps).to(device)
        self.losses = torch.zeros(self.steps, device=device)
        self.loss = SegmentationLoss(train.target, row.dice)
        self.generator = torch.Generator(device).manual_seed(seed)

    def act(self) -> bool:
        """What tricks do before this step; whether any did."""
        due = [trick for trick, steps in self.moments.items() if self.training.step in steps]
        for trick in due:
            trick.act(self.training)
        return bool(due)

    def compute(self) -> None:
        """The next step, by its device alone."""
        network, optimizer, train = self.training.network, self.training.optimizer, self.data["train"]
        for group in optimizer.param_groups:
            group["lr"].copy_(group["peak"] * self.rates[self.done].squeeze())
        chosen = self.order[self.done].squeeze(0)
        x, masks = train.images[chosen], train.masks[chosen]
        if self.row.turns:
            x, masks = turn(x, masks, torch.rand(len(x), 3, generator=self.generator, device=x.device) < 0.5)
        if self.row.augment:
            x, masks = augment(x, masks, self.row.augment, self.generator)
        x = (x.float() / 255 - self.mean) / self.std
        levels = network.levels(x) if isinstance(network, UShape) else [network(x)]
        loss = deep_loss(self.loss, levels, masks)
        optimizer.zero_grad()
        (loss + sum(trick.penalty(network) for trick in self.tricks)).backward()
        optimizer.step()
        self.losses.index_copy_(0, self.done, loss.detach().view(1))
        _average(self.training.averaged, network, self.decays[self.done].squeeze())
        self.done += 1

    def result(self) -> dict[str, Any]:
        """Scores a subject and class of the averaged weights, the curve of the loss, and times; the network itself."""
        network, scale = self.training.averaged, (self.mean, self.std)
        curve = [float(part.mean()) for part in self.losses.tensor_split(self.row.epochs)]
        seconds = time.perf_counter() - self.started
        found = {name: _scores(network, self.data[name], *scale) for name in ("val", "test")}
        return {"scores": found, "curve": curve, "seconds": seconds, "steps": self.steps, "network": network, "scale": scale}


def run(row: Row, data: dict[str, Slices], seed: int, device: str = "cpu") -> dict[str, Any]:
    """Train with one seed, a step after the other; see ``Trial.result``."""
    trial = Trial(row, data, seed, device)
    for step in range(trial.steps):
        trial.training.step = step
        trial.act()
        trial.compute()
    return trial.result()


def _build(row: Row, train: Slices, seed: int) -> tuple[nn.Module, list[Any]]:
    torch.manual_seed(seed)
    network = build_model(row.model, in_channels=train.images.shape[1], out_channels=train.out_channels, **row.options)
    tricks = [TRICKS[name](value) for name, value in row.tricks.items()]
    for trick in tricks:
        trick.build(network)
    return network, tricks


def _optimizer(network: nn.Module, row: Row, device: str) -> torch.optim.Optimizer:
    groups = parameter_groups(network, row.lr, row.weight_decay, row.spline_lr or row.lr, row.spline_decay)
    for group in groups:
        group |= {"peak": group["lr"], "lr": torch.tensor(group["lr"], device=device)}
    kind = torch.optim.AdamW if row.decoupled else torch.optim.Adam
    return kind(groups, fused=True, capturable=device == "cuda")


def _rates(row: Row, steps: int) -> Tensor:
    """The learning rate of every step, as a share of its peak: a cosine to 1 %, after a linear warm-up."""
    step = torch.arange(steps)
    down = 0.01 + 0.99 * (1 + torch.cos(math.pi * step / steps)) / 2
    return down * ((step + 1) / max(row.warmup, 1)).clamp(max=1)


def _decays(row: Row, steps: int) -> Tensor:
    """How much of the average stays at every step."""
    step = torch.arange(steps)
    return ((1 + step) / (10 + step)).clamp(max=row.ema)


def _order(count: int, row: Row, seed: int) -> Tensor:
    """Which images every step takes, ``(steps, batch)``."""
    generator, whole = torch.Generator().manual_seed(seed), count // row.batch * row.batch
    steps = row.steps or row.epochs * whole // row.batch
    epochs = [torch.randperm(count, generator=generator)[:whole] for _ in range(math.ceil(steps * row.batch / whole))]
    return torch.cat(epochs).view(-1, row.batch)[:steps]


@torch.no_grad()
def _average(averaged: nn.Module, network: nn.Module, decay: Tensor) -> None:
    pairs = list(zip(averaged.state_dict().values(), network.state_dict().values(), strict=True))
    old, new = map(list, zip(*(pair for pair in pairs if pair[0].is_floating_point()), strict=True))
    change = torch._foreach_sub(new, old)
    torch._foreach_mul_(change, 1 - decay)
    torch._foreach_add_(old, change)


@torch.no_grad()
def predictions(network: nn.Module, data: Slices, mean: float, std: float) -> Tensor:
    """Masks of the classes, bool ``(N, K, H, W)``."""
    network.eval()
    parts = data.images.split(_EVALUATED[data.images.device.type])
    return torch.cat([data.decided(network((x.float() / 255 - mean) / std)) for x in parts])


def _scores(network: nn.Module, data: Slices, mean: float, std: float) -> list[list[float]]:
    dice = subject_dice(predictions(network, data, mean, std), data.masks, data.subjects)
    return [[round(v, 6) for v in one] for one in dice.tolist()]
