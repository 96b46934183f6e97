"""How much memory there is, and how much a training step takes by our own count."""

from __future__ import annotations

import os
from functools import cached_property
from math import prod
from pathlib import Path
from typing import Any, NamedTuple

import torch

from allukan.costs import Inspection, inspect_model
from allukan.errors import UserError, full_stop
from allukan.models import ModelCard, model_options
from allukan.options import SHAPING
from allukan.training.planning.stages import Candidate, Stages

SAFETY = 1.2  # what is needed over what is counted; measured, with the two that follow: docs/plan.md
WORKING_MAPS = 6  # as large as the largest: what the backward pass of one layer holds at a time
ALLOCATOR = 128 * 2**20  # bytes that it has in hand
_FLOAT = 4  # bytes
_UNLIMITED = 2**60
_INSPECTED = 2  # patches: of one a batch norm at the bottom might see a single value


def available_memory(device: str = "cpu", root: Path = Path("/")) -> int:
    """Bytes that a training may take now: what is free on a CUDA device, else of the machine within its control group.

    ``root`` is where ``proc`` and ``sys`` are found. Raises ``UserError`` where the system does not tell.
    """
    if torch.device(device).type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    found = [_machine(root), *_groups(root)]
    known = [amount for amount in found if amount is not None]
    if not known:
        raise UserError("this system does not say how much memory is free: give --memory, as 8GiB.")
    return max(0, min(known))


def _machine(root: Path) -> int | None:
    lines = _lines(root / "proc" / "meminfo")
    free = next((line.split()[1] for line in lines if line.startswith("MemAvailable:")), None)
    if free is not None:
        return int(free) * 1024
    if not lines and root == Path("/") and "SC_PHYS_PAGES" in getattr(os, "sysconf_names", {}):
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2  # macOS: half of what is built in
    return None


def _groups(root: Path) -> list[int]:
    """What the control groups of this process leave, of version 1 or 2; a container sees its own at the root."""
    found = []
    for line in _lines(root / "proc" / "self" / "cgroup"):
        number, controllers, path = line.split(":", 2)
        if number != "0" and "memory" not in controllers.split(","):
            continue
        base, names = root / "sys" / "fs" / "cgroup", ("memory.max", "memory.current", "inactive_file")
        if number != "0":
            base, names = base / "memory", ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
        own = base / path.lstrip("/")
        while own.is_relative_to(base):
            found += _left(own, *names)
            own = own.parent
    return found


def _left(folder: Path, limit: str, usage: str, cache: str) -> list[int]:
    """Limit minus use, of which cached files do not count; nothing where there is no limit."""
    most, used = ("".join(_lines(folder / name)) for name in (limit, usage))
    if not (most.isdecimal() and used.isdecimal()) or int(most) >= _UNLIMITED:
        return []
    cached = [int(line.split()[1]) for line in _lines(folder / "memory.stat") if line.startswith(f"{cache} ")]
    return [int(most) - int(used) + sum(cached)]


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except OSError:
        return []


class _Inspected(NamedTuple):
    """Of one network: bytes and FLOPs a voxel, and parameters."""

    bytes: float
    flops: float
    parameters: int


class Footprint:
    """What a training of one kind of network takes: bytes and FLOPs of a step, by patch and batch.

    Patches are multiples of what their stages divide by, so all feature maps grow with their voxels: one inspection will do.
    """

    def __init__(
        self, model: str, in_channels: int, out_channels: int, spatial_dims: int, options: dict[str, Any] | None = None
    ) -> None:
        self.model, self.in_channels, self.out_channels, self.spatial_dims = model, in_channels, out_channels, spatial_dims
        self.options = options or {}
        self._known: dict[Stages, _Inspected] = {}

    @cached_property
    def staged(self) -> bool:
        """Whether the network takes strides."""
        return "topology" in model_options(self.model)

    def options_with(self, stages: Stages) -> dict[str, Any]:
        """The options of the model with these stages, unless it takes none or they say themselves what it is to have."""
        given = self.options.get("topology") or {}
        planned = stages.topology() if self.staged and not set(SHAPING) & set(given) else {}
        return {**self.options, "topology": {**given, **planned}} if planned else self.options

    def bytes(self, candidate: Candidate, batch: int) -> int:
        """Memory of a step in float32.

        Counted are what it saves for the backward pass, ``WORKING_MAPS`` of the largest feature map, images, logits, weights,
        gradients and Adam's moments.
        """
        kept = self._inspected(candidate)
        return int(SAFETY * (batch * prod(candidate.patch) * kept.bytes + 4 * _FLOAT * kept.parameters)) + ALLOCATOR

    def flops(self, candidate: Candidate, batch: int) -> float:
        """FLOPs of a step, forward and backward."""
        return batch * prod(candidate.patch) * self._inspected(candidate).flops

    def card(self, candidate: Candidate) -> ModelCard:
        """The description by which such a network is built."""
        return ModelCard(
            model=self.model,
            in_channels=self.in_channels,
            classes=tuple(map(str, range(self.out_channels))),
            target="multilabel",
            size=candidate.patch,
            mean=(),
            std=(),
            spatial_dims=self.spatial_dims,
            options=self.options_with(candidate.stages),
        )

    def _inspection(self, candidate: Candidate) -> Inspection:
        outline = self.card(candidate).outline()
        try:
            return inspect_model(outline, (_INSPECTED, self.in_channels, *candidate.patch))
        except Exception as error:  # whatever code of others raises for shapes without values
            reason = full_stop(" ".join(str(error).split()) or type(error).__name__)
            raise UserError(
                f"what {self.model} takes for patches of {'×'.join(map(str, candidate.patch))} cannot be counted: {reason}"
            ) from error

    def _inspected(self, candidate: Candidate) -> _Inspected:
        patch, stages = candidate
        if stages not in self._known:
            found = self._inspection(candidate)
            total, voxels = found.total(), _INSPECTED * prod(patch)
            largest = WORKING_MAPS * max(prod(shape) for shape in found.outputs.values())
            ends = self.in_channels * voxels + 3 * self.out_channels * voxels  # image; logits, their gradient, probabilities
            kept = total.saved_bytes + _FLOAT * (largest + ends)
            work = total.cost.forward.total + total.cost.backward.total
            self._known[stages] = _Inspected(kept / voxels, work / voxels, total.parameters)
        return self._known[stages]
