"""How a benchmark measures: device, precision, threads and patience, the same for everything in one table."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Annotated

import torch
from typer import Option

from allukan.errors import UserError
from allukan.models import pick_device
from benchmarks.timing import Step, Timing, interleaved

PRECISIONS = {"32-true": None, "bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}


@dataclass(frozen=True)
class Settings:
    """What all contenders of a benchmark have in common, as options of its program; ``UserError`` for what is not usable here.

    The precision is that of autocast, as in training; the loss is not scaled.
    """

    device: Annotated[str, Option(help="auto, cpu, cuda or cuda:1 …")] = "auto"
    precision: Annotated[str, Option(help="32-true, bf16-mixed or 16-mixed")] = "32-true"
    compile: Annotated[bool, Option("--compile", help="torch.compile everything that is compared.")] = False
    threads: Annotated[int | None, Option(help="CPU threads  [as torch chooses]")] = None
    repeats: Annotated[int, Option(help="Rounds of measurement at most.")] = 15
    seconds: Annotated[
        float, Option(help="That each may take for each of its times; slow ones get fewer rounds, three at least.")
    ] = 2.0

    def __post_init__(self) -> None:
        if self.precision not in PRECISIONS:
            raise UserError(f"unknown precision {self.precision!r}: choose one of {', '.join(PRECISIONS)}.")
        if self.threads is not None:
            at_least("threads", self.threads, 1)
        at_least("repeats", self.repeats, 1)
        if not self.seconds > 0:
            raise UserError(f"option seconds must be above 0, got {self.seconds}.")
        if self.place.type not in ("cpu", "cuda"):
            raise UserError(f"device {self.device!r} is not one that can be timed here: choose cpu or cuda.")

    @property
    def place(self) -> torch.device:
        """The device itself."""
        return pick_device(self.device)

    def autocast(self) -> torch.autocast:
        """The precision as a context; computes nothing differently for "32-true"."""
        dtype = PRECISIONS[self.precision]
        return torch.autocast(self.place.type, dtype=dtype, enabled=dtype is not None)

    def prepare(self, module: torch.nn.Module) -> torch.nn.Module:
        """``module`` on the device and, where wanted, compiled."""
        module = module.to(self.place)
        if self.compile:
            module.compile()
        return module

    def time(self, steps: dict[str, Step], reference: str, *, single: bool = False) -> dict[str, Timing]:
        """``interleaved`` with these settings."""
        return interleaved(steps, self.place, reference=reference, repeats=self.repeats, seconds=self.seconds, single=single)

    @contextmanager
    def running(self) -> Iterator[None]:
        """Sets the number of threads for as long as the benchmark runs."""
        before = torch.get_num_threads()
        torch.set_num_threads(self.threads or before)
        try:
            yield
        finally:
            torch.set_num_threads(before)


def at_least(name: str, value: int, least: int) -> None:
    """``UserError`` unless ``value`` is at least ``least``.

    >>> at_least("threads", 2, 1)
    """
    if value < least:
        raise UserError(f"option {name} must be a whole number of at least {least}, got {value}.")
