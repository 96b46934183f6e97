"""What the shared spline says of its engines on this machine; the only place of the doctor that knows how they are kept."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import torch

from allukan.ops.engines.dispatch import IMPLEMENTATIONS, choose, obstacle
from allukan.ops.phi import Phi

_USUAL = Phi(5, 3, (-3.0, 3.0))  # a layer by default


@dataclass(frozen=True)
class Engines:
    """Of one device: the one that ``impl="auto"`` takes, and for every one why it cannot run, "" where it can."""

    device: str
    chosen: str
    obstacles: dict[str, str]


def engines(device: str) -> Engines:
    """What computes a KA layer with the usual options on "cpu" or "cuda"."""
    obstacles = {name: obstacle(name, _USUAL, device, torch.float32) or "" for name in IMPLEMENTATIONS if name != "auto"}
    if device == "cpu" and not obstacles["triton"]:
        obstacles["triton"] = "on a CPU it is interpreted, for tests only (TRITON_INTERPRET is set)"
    return Engines(device, choose(_USUAL, device, torch.float32), obstacles)


@dataclass(frozen=True)
class Loops:
    """The compiled loops of the engine "native": whose threads run them, and where their machine code is kept."""

    team: str
    folder: str | None
    writable: bool
    compiled: bool


def loops() -> Loops:
    """Of this process and this version of the code; only where "native" can run."""
    from allukan.ops.engines import native_cache, native_kernels, native_team

    team = "torch's OpenMP" if native_team.loaded_openmp() else "Python's, as torch has no OpenMP that is known here"
    place = native_kernels.forward._cache.cache_path  # None where numba found no folder
    folder = Path(place) if place else None
    compiled = folder is not None and any(folder.glob(f"*.forward-*{native_cache.code_version()}*.nbc"))
    return Loops(team, place, folder is not None and _writable(folder), compiled)


def _writable(folder: Path) -> bool:
    """Whether files can be made there, also where the folder itself is still to be made."""
    there = next(place for place in (folder, *folder.parents) if place.exists())
    return os.access(there, os.W_OK)
