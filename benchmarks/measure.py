"""The figures of modules side by side: size, memory kept for the backward pass, times and ratios."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from allukan.costs import parameter_count, saved_bytes
from benchmarks.memory import peak_bytes
from benchmarks.report import Row
from benchmarks.settings import Settings


@dataclass(frozen=True)
class Contender:
    """A module with what is timed of it: a forward pass that keeps its graph, a step (forward and backward), an inference."""

    module: nn.Module
    forward: Callable[[], Any]
    step: Callable[[], Any]
    inference: Callable[[], Any]


def rows(contenders: Mapping[str, Contender], settings: Settings, first: Row | None = None) -> list[Row]:
    """One row of figures a contender, in order; ``first`` are columns in front, ratios are against the first contender."""
    reference = next(iter(contenders))
    place = settings.place
    sizes: dict[str, Row] = {}
    for name, contender in contenders.items():
        kept = saved_bytes(contender.forward, contender.module)
        peak = peak_bytes(contender.step, place)
        sizes[name] = {"parameters": parameter_count(contender.module), "saved_bytes": kept, "peak_bytes": peak}
        if peak is None:
            del sizes[name]["peak_bytes"]
    times = {
        what: settings.time({name: getattr(c, what) for name, c in contenders.items()}, reference)
        for what in ("forward", "step", "inference")
    }
    result = []
    for name in contenders:
        row: Row = {**(first or {}), "name": name, **sizes[name]}
        for what, timings in times.items():
            timing = timings[name]
            row |= {f"{what}_seconds": timing.seconds, f"{what}_ratio": timing.ratio, f"{what}_quartiles": timing.quartiles}
        result.append(row | {"repeats": times["step"][name].repeats})
    return result


def layer_contender(module: nn.Module, shape: tuple[int, ...], settings: Settings) -> Contender:
    """A layer in the middle of a network: its input wants a gradient, too."""
    module = settings.prepare(module)
    x = torch.randn(shape, device=settings.place, generator=generator(settings.place)).requires_grad_()
    wanted = [x, *(parameter for parameter in module.parameters() if parameter.requires_grad)]

    def forward() -> torch.Tensor:
        with settings.autocast():
            return module(x)

    def step() -> None:
        out = forward()
        torch.autograd.grad(out, wanted, torch.ones_like(out))

    @torch.inference_mode()
    def inference() -> None:
        forward()

    return Contender(module, forward, step, inference)


def generator(place: torch.device, seed: int = 0) -> torch.Generator:
    """The same random numbers for everybody."""
    return torch.Generator(place).manual_seed(seed)
