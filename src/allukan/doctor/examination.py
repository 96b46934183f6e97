"""The examination: machine, engines, compiled loops, self-test, and in one sentence what is wrong."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch

from allukan.doctor.engines import Engines, Loops, engines, loops
from allukan.doctor.selftest import LAYER, Check, check_layer, check_spline
from allukan.provenance import processor


@dataclass(frozen=True)
class Machine:
    """What can compute here; ``no_gpu`` says why no GPU can, "" where one can."""

    processor: str
    threads: int
    gpus: list[str]
    no_gpu: str

    @property
    def devices(self) -> list[str]:
        """As torch calls them."""
        return ["cpu", "cuda"] if self.gpus else ["cpu"]


@dataclass(frozen=True)
class Examination:
    """All that can be said before anything is computed; ``loops`` is None where the engine "native" cannot run."""

    machine: Machine
    engines: list[Engines]
    loops: Loops | None


def examine() -> Examination:
    """Look at the machine and ask the engines."""
    machine = _machine()
    found = [engines(device) for device in machine.devices]
    return Examination(machine, found, None if found[0].obstacles["native"] else loops())


def _machine() -> Machine:
    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())] if torch.cuda.is_available() else []
    reason = "this torch is built without CUDA" if torch.version.cuda is None else "torch finds no GPU, or no driver of one"
    return Machine(processor(), torch.get_num_threads(), gpus, "" if gpus else reason)


def self_test(found: Iterable[Engines]) -> list[Check]:
    """Every engine that can run on every device, and a layer on each."""
    checks = list[Check]()
    for e in found:
        able = [name for name, obstacle in e.obstacles.items() if not obstacle and name != "reference"]
        checks += [*(check_spline(name, e.device) for name in able), check_layer(e.device)]
    return checks


def verdict(checks: Iterable[Check]) -> str:
    """What is wrong in one sentence, "" where nothing is.

    >>> verdict([Check("native", "cpu", 0.1, 0.2, 0.0, "its value is wrong"), Check("eager", "cpu", 0.0, 0.0, 0.0)])
    "the self-test failed: native on cpu: its value is wrong; Spline(impl='eager') does without it."
    """
    checks = list(checks)
    bad = next((check for check in checks if check.failure), None)
    if bad is None:
        return ""
    good = [c.name for c in checks if c.device == bad.device and not c.failure and c.name != LAYER]
    way_out = f"; Spline(impl={good[0]!r}) does without it" if good and bad.name != LAYER else ""
    return f"the self-test failed: {bad.name} on {bad.device}: {bad.failure}{way_out}."
