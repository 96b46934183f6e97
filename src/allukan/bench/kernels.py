"""Speed of the shared spline's engines against the bandwidth that a plain copy reaches in the same run."""

from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import Callable, Collection, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from allukan.ops import spline_autograd
from allukan.ops.engines.dispatch import available
from allukan.ops.phi import Phi

SIZES = ((8, 64, 64, 64), (8, 64, 256, 256))
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
GRID = (-2.0, 2.0)
FORMATS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}
Call = Callable[[], Any]


def bench_kernels(
    device: str | torch.device = "cpu",
    sizes: Sequence[tuple[int, int, int, int]] = SIZES,
    dtypes: Sequence[str] = ("float32", "bfloat16"),
    activations: Sequence[int] = (1, 4),
    formats: Sequence[str] = ("contiguous", "channels_last"),
    input_grads: Sequence[str] = ("exact", "free"),
    repeats: int = 20,
) -> list[dict[str, Any]]:
    """Median times of forward and backward for every engine that runs on ``device``; cubic splines on 5 intervals, SiLU.

    ``sizes`` are shapes ``(B, C, H, W)``; every channel meets all ``activations``. ``bytes`` is the least that is to be moved:
    forward reads x and writes φ(x), backward reads x and the gradient and writes another. ``copy_ratio`` is the bandwidth
    against that of ``Tensor.copy_`` moving as many bytes; copies and engines take turns. Raises ``ValueError`` for an unknown
    name or ``repeats < 1``.

    >>> rows = bench_kernels(sizes=[(1, 2, 8, 8)], dtypes=["float32"], activations=[1], formats=["contiguous"], repeats=1)
    >>> sorted({row["impl"] for row in rows}), rows[0]["pass"], rows[0]["bytes"]
    (['eager', 'native'], 'forward', 1024)
    """
    _check(dtypes, formats, input_grads, repeats)
    place, rows = torch.device(device), []
    for shape, dtype, a, memory, input_grad in itertools.product(sizes, dtypes, activations, formats, input_grads):
        x = torch.randn(shape, device=place).to(DTYPES[dtype], memory_format=FORMATS[memory])
        coef, weight = torch.randn(a, 8, device=place), torch.randn(a, device=place)
        first = {"shape": list(shape), "dtype": dtype, "activations": a, "format": memory, "input_grad": input_grad}
        for name, moved, calls in _passes(x, coef, weight, input_grad, available(Phi(5, 3, GRID), x.device.type, x.dtype)):
            if name == "forward" and input_grad != input_grads[0]:
                continue  # the forward pass is the same
            copied = torch.empty(moved // 2, dtype=torch.uint8, device=place)
            times = _median_seconds({"copy": partial(torch.empty_like(copied).copy_, copied), **calls}, place, repeats)
            copy = times.pop("copy")
            rows += [
                {**first, "pass": name, "impl": impl, "seconds": s, "bytes": moved, "gb_per_s": moved / s / 1e9}
                | {"copy_gb_per_s": moved / copy / 1e9, "copy_ratio": copy / s, "repeats": repeats}
                for impl, s in times.items()
            ]
    return rows


def _passes(
    x: Tensor, coef: Tensor, weight: Tensor, input_grad: str, engines: Sequence[str]
) -> list[tuple[str, int, dict[str, Call]]]:
    """Name, least bytes and a call an engine, for both passes."""
    outputs = len(coef) * x.nbytes
    forward: dict[str, Call] = {}
    backward: dict[str, Call] = {}
    for engine in engines:
        how = Phi(5, 3, GRID, exact=input_grad == "exact"), engine
        g = torch.randn_like(spline_autograd.forward(x, coef, weight, *how))
        forward[engine] = partial(spline_autograd.forward, x, coef, weight, *how)
        backward[engine] = partial(spline_autograd.backward, g, x, coef, weight, *how)
    return [("forward", x.nbytes + outputs, forward), ("backward", 2 * x.nbytes + outputs, backward)]


def _median_seconds(calls: dict[str, Call], place: torch.device, repeats: int) -> dict[str, float]:
    """Median of each call after a warm-up; one of each in turn, so that drift of the machine meets all alike."""
    for call in calls.values():
        call()
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(repeats):
        for name, call in calls.items():
            times[name].append(_seconds(call, place))
    return {name: statistics.median(values) for name, values in times.items()}


def _seconds(call: Call, place: torch.device) -> float:
    if place.type != "cuda":
        start = time.perf_counter()
        call()
        return time.perf_counter() - start
    before, after = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda.synchronize(place)
    torch.cuda._sleep(1_000_000)  # keeps the device busy while the launches queue up: their cost on the host is not the kernel's
    before.record()
    call()
    after.record()
    torch.cuda.synchronize(place)
    return before.elapsed_time(after) / 1e3


def _check(dtypes: Sequence[str], formats: Sequence[str], input_grads: Sequence[str], repeats: int) -> None:
    choices: dict[str, tuple[Sequence[str], Collection[str]]] = {
        "dtype": (dtypes, DTYPES),
        "format": (formats, FORMATS),
        "input_grad": (input_grads, ("exact", "free")),
    }
    for what, (names, known) in choices.items():
        for name in names:
            if name not in known:
                raise ValueError(f"unknown {what} {name!r}; choose one of {', '.join(known)}")
    if repeats < 1:
        raise ValueError(f"repeats must be at least 1, got {repeats}")
