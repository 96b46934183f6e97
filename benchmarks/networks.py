"""The networks that are measured: what they segment, whether they fit, their training step and inference."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Annotated, Any

import torch
from torch import nn
from typer import Option

from allukan.costs import parameter_count, saved_bytes
from allukan.errors import UserError
from allukan.models import SIZES, AllUKAN, build_model, check_norms, model_options
from allukan.training import SegmentationLoss
from benchmarks.contenders import VARIANTS
from benchmarks.measure import Contender, generator
from benchmarks.memory import available_bytes
from benchmarks.report import Row
from benchmarks.settings import Settings, at_least

Network = Callable[[], nn.Module]
_SPARE = 2.5  # a step needs the saved bytes and gradients of about that size; a network that might not fit is not run


@dataclass(frozen=True)
class Task:
    """What the networks segment: images ``(batch, in_channels, px, px)``, one class; ``UserError`` for unusable sizes."""

    size: Annotated[str, Option(help="tiny, small or base")] = "small"
    batch: Annotated[int, Option(help="Images a step.")] = 2
    in_channels: Annotated[int, Option(help="Of the images.")] = 3
    px: Annotated[int, Option(help="Sides of the images.")] = 128
    spatial_dims: Annotated[int, Option(help="2 or 3")] = 2

    def __post_init__(self) -> None:
        if self.size not in SIZES:
            raise UserError(f"unknown size {self.size!r}: choose one of {', '.join(SIZES)}.")
        if self.spatial_dims not in (2, 3):
            raise UserError(f"option spatial_dims must be 2 or 3, got {self.spatial_dims}.")
        for name, least in (("batch", 1), ("in_channels", 1), ("px", 32)):
            at_least(name, getattr(self, name), least)

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the images."""
        return (self.batch, self.in_channels, *[self.px] * self.spatial_dims)

    def network(self, variant: str) -> nn.Module:
        """ALL U-KAN of the variant; the same seed for all."""
        layer, spline = VARIANTS[variant]
        torch.manual_seed(0)
        return AllUKAN(self.in_channels, 1, self.spatial_dims, self.size, layer, spline)


def factory_networks(task: Task, names: Iterable[str]) -> dict[str, Network]:
    """Networks of the factory by name, in the sizes they have; ``UserError`` for an unknown name."""
    options: dict[str, Any] = {"in_channels": task.in_channels, "out_channels": 1, "spatial_dims": task.spatial_dims}
    names = list(names)
    for name in names:
        model_options(name)  # refuses a name that does not exist, before anything is measured
    return {name: lambda name=name: build_model(name, **options) for name in names}  # type: ignore[misc]


def on_paper(network: nn.Module, task: Task) -> Row:
    """Parameters and saved bytes of a training pass in float32, without running it: a copy goes to the meta device.

    ``UserError`` when it could not be run, because a norm would see a single value.
    """
    check_norms(network, task.in_channels, task.shape[2:], task.batch)
    paper = copy.deepcopy(network).to("meta")
    x = torch.empty(task.shape, device="meta")
    return {"parameters": parameter_count(paper), "saved_bytes": saved_bytes(lambda: paper(x), paper)}


def fits(needed: int, settings: Settings, limit_gib: float = math.inf) -> bool:
    """Whether a step that keeps so many bytes fits into the memory that is free now, and keeps no more than the limit."""
    free = available_bytes(settings.place)
    return needed <= limit_gib * 2**30 and (free is None or _SPARE * needed < free)


def too_large(task: Task, settings: Settings) -> UserError:
    """What to raise when not even the reference can be run."""
    return UserError(f"images of {'×'.join(map(str, task.shape))} do not fit into the memory of {settings.place}: lower px.")


def network_contender(network: nn.Module, task: Task, settings: Settings) -> Contender:
    """A whole training step as the trainer makes it, and inference as the predictor does."""
    place = settings.place
    network = settings.prepare(network)
    numbers = generator(place)
    images = torch.randn(task.shape, device=place, generator=numbers)
    masks = (torch.rand(task.batch, 1, *task.shape[2:], device=place, generator=numbers) < 0.5).to(torch.uint8)
    loss, optimizer = SegmentationLoss("binary"), torch.optim.Adam(network.parameters(), lr=1e-4)

    def forward() -> torch.Tensor:
        network.train()
        with settings.autocast():
            return loss(network(images), masks)

    def step() -> None:
        optimizer.zero_grad()
        forward().backward()
        optimizer.step()

    @torch.inference_mode()
    def inference() -> None:
        network.eval()
        with settings.autocast():
            network(images)

    return Contender(network, forward, step, inference)
