"""How fast this machine is, and how many epochs fit into a time."""

from __future__ import annotations

import time

import torch

from allukan.errors import UserError
from allukan.options.amounts import time_text
from allukan.training.planning.memory import Footprint
from allukan.training.planning.stages import Candidate


def epochs_for(budget_seconds: float, seconds_per_epoch: float) -> int:
    """How many whole epochs fit; the learning rate then falls by its cosine over these, down to the end of the budget.

    Raises ``UserError`` where not even one does.

    >>> epochs_for(1800, 7.0)
    257
    """
    epochs = int(budget_seconds / seconds_per_epoch)
    if epochs < 1:
        raise UserError(
            f"one epoch takes about {time_text(seconds_per_epoch)} and {time_text(budget_seconds)} are left for training: give "
            "more time, or a smaller model."
        )
    return epochs


def measure_speed(footprint: Footprint, candidate: Candidate, device: str = "cpu", steps: int = 2) -> float:
    """FLOPs a second, as ``Footprint.flops`` counts them, of forward and backward passes on two patches; one more warms up."""
    network = footprint.card(candidate).build().to(device)
    x = torch.randn(2, footprint.in_channels, *candidate.patch, device=device)
    for step in range(steps + 1):
        if step == 1:
            started = now(device)
        network(x).square().mean().backward()
    return steps * footprint.flops(candidate, 2) / (now(device) - started)


def now(device: str | torch.device) -> float:
    """Seconds on a clock, when the device has done what it was given."""
    kind = torch.device(device).type
    if kind == "cuda":
        torch.cuda.synchronize(device)
    elif kind == "mps":
        torch.mps.synchronize()
    return time.perf_counter()
