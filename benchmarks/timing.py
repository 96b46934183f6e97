"""Times that can be compared: all contenders in turn, round after round, each round against the reference of that round."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import median, quantiles
from typing import Any

import torch

Step = Callable[[], Any]
SHORTEST_SAMPLE = 0.02  # seconds; faster steps are repeated within a sample
_PAUSE = 1_000_000  # cycles that the device waits while the launches of a step queue up


@dataclass(frozen=True)
class Timing:
    """Seconds a call of one contender.

    Attributes:
        seconds: median over the rounds.
        quartiles: first and third.
        ratio: median of this contender's time over the reference's in the same round, so that a drift of the machine cancels.
        repeats: rounds that it took part in; slow contenders take part in fewer.
    """

    seconds: float
    quartiles: tuple[float, float]
    ratio: float
    repeats: int


def interleaved(
    steps: Mapping[str, Step],
    device: torch.device,
    *,
    reference: str,
    repeats: int = 15,
    seconds: float = 2.0,
    single: bool = False,
) -> dict[str, Timing]:
    """Time ``steps`` round-robin after a warm-up: the median call of each and its ratio to that of ``reference``.

    A contender takes part in ``repeats`` rounds, or in as many as fit into ``seconds``, but in three at least. On a GPU the
    time is that between two events on the stream, on a CPU that of the clock. Fast steps are called several times a sample.
    ``single`` is for kernels: one call a sample, and a GPU waits until it is queued, so that what launching costs the host is
    not in it.

    >>> times = interleaved({"a": lambda: sum(range(9)), "b": lambda: None}, torch.device("cpu"), reference="a", seconds=0.1)
    >>> times["a"].ratio
    1.0
    """
    expected = {name: _warm_up(step, device, seconds) for name, step in steps.items()}
    calls = {name: 1 if single else max(1, round(SHORTEST_SAMPLE / max(cost, 1e-7))) for name, cost in expected.items()}
    rounds = {name: _rounds(expected[name] * calls[name], repeats, seconds) for name in steps}
    rounds[reference] = max(rounds.values())
    samples: dict[str, list[float]] = {name: [] for name in steps}
    for index in range(max(rounds.values())):
        for name, step in steps.items():
            if index < rounds[name]:
                samples[name].append(_sample(step, calls[name], device, pause=single))
    return {name: _timing(values, samples[reference]) for name, values in samples.items()}


def _warm_up(step: Step, device: torch.device, seconds: float) -> float:
    """Seconds of the second call, as the first one compiles and allocates; of the first where that is slow already."""
    first = _sample(step, 1, device)
    return first if first > seconds else _sample(step, 1, device)


def _rounds(cost: float, repeats: int, seconds: float) -> int:
    return max(min(3, repeats), min(repeats, int(seconds / max(cost, 1e-9))))


def _sample(step: Step, calls: int, device: torch.device, pause: bool = False) -> float:
    """Seconds a call, over ``calls`` of them."""
    if device.type != "cuda":
        start = now(device)
        for _ in range(calls):
            step()
        return (now(device) - start) / calls
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda.synchronize(device)
    with torch.cuda.device(device):
        if pause:
            torch.cuda._sleep(_PAUSE)
        begin.record()
        for _ in range(calls):
            step()
        end.record()
    torch.cuda.synchronize(device)
    return begin.elapsed_time(end) / 1000 / calls


def now(device: torch.device) -> float:
    """Seconds on the clock, read when the device has done all that was asked of it."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)  # else the queueing of a step would be timed, not the step
    return time.perf_counter()


def _timing(values: list[float], reference: list[float]) -> Timing:
    ratios = [mine / theirs for mine, theirs in zip(values, reference, strict=False)]  # the rounds that both took part in
    low, _, high = quantiles(values, n=4, method="inclusive") if len(values) > 1 else (values[0],) * 3
    return Timing(median(values), (low, high), median(ratios), len(values))
