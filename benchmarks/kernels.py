"""Speed of the shared spline's engines against the bandwidth that a plain copy reaches in the same run.

python -m benchmarks.kernels --help
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterable, Sequence
from functools import partial
from typing import Annotated

import torch
from torch import Tensor
from typer import Option

from allukan.errors import UserError
from allukan.ops import spline_autograd
from allukan.ops.engines.dispatch import available
from allukan.ops.phi import Phi
from benchmarks.program import Program, listed
from benchmarks.report import Result, Row
from benchmarks.settings import Settings, at_least
from benchmarks.timing import Step

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
GRID = (-2.0, 2.0)
FORMATS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}
INPUT_GRADS = ("exact", "free")
Dtypes = Annotated[Iterable[str], listed("Of float32, bfloat16 and float16, separated by commas.")]


def kernels(
    settings: Settings,
    channels: Annotated[int, Option(help="Of the feature map.")] = 64,
    px: Annotated[int, Option(help="Its sides.")] = 64,
    batch: Annotated[int, Option(help="Samples of it.")] = 8,
    dtypes: Dtypes = ("float32", "bfloat16"),
) -> Result:
    """The shared spline by itself, every engine that runs here, against the bandwidth of a copy."""
    for option, value in (("channels", channels), ("px", px), ("batch", batch)):
        at_least(option, value, 1)
    with settings.running():
        return Result(bench_kernels(settings, (batch, channels, px, px), list(dtypes)))


def bench_kernels(
    settings: Settings,
    shape: tuple[int, int, int, int],
    dtypes: Sequence[str],
    activations: Sequence[int] = (1, 4),
    formats: Sequence[str] = tuple(FORMATS),
    input_grads: Sequence[str] = INPUT_GRADS,
) -> list[Row]:
    """Median times of forward and backward for every engine that runs on the device; cubic splines on 5 intervals, SiLU.

    ``shape`` is ``(B, C, H, W)``; every channel meets all ``activations``. ``bytes`` is the least that is to be moved:
    forward reads x and writes φ(x), backward reads x and the gradient and writes another. ``copy_ratio`` is the bandwidth
    against that of ``Tensor.copy_`` moving as many bytes; copies and engines take turns. ``UserError`` for an unknown name.

    >>> quick = Settings("cpu", repeats=1)
    >>> rows = bench_kernels(quick, (1, 2, 8, 8), ["float32"], activations=[1], formats=["contiguous"])
    >>> sorted({row["impl"] for row in rows}), rows[0]["pass"], rows[0]["bytes"]
    (['eager', 'native'], 'forward', 1024)
    """
    _check("dtype", dtypes, DTYPES)
    _check("format", formats, FORMATS)
    _check("input_grad", input_grads, INPUT_GRADS)
    place, rows = settings.place, []
    for dtype, a, memory, input_grad in itertools.product(dtypes, activations, formats, input_grads):
        x = torch.randn(shape, device=place).to(DTYPES[dtype], memory_format=FORMATS[memory])
        coef, weight = torch.randn(a, 8, device=place), torch.randn(a, device=place)
        first = {"shape": "×".join(map(str, shape)), "dtype": dtype, "activations": a, "format": memory, "input_grad": input_grad}
        for name, moved, calls in _passes(x, coef, weight, input_grad, available(Phi(5, 3, GRID), x.device.type, x.dtype)):
            if name == "forward" and input_grad != input_grads[0]:
                continue  # the forward pass is the same
            copied = torch.empty(moved // 2, dtype=torch.uint8, device=place)
            steps: dict[str, Step] = {"copy": partial(torch.empty_like(copied).copy_, copied), **calls}
            times = settings.time(steps, "copy", single=True)
            copy = times.pop("copy").seconds
            rows += [
                {**first, "pass": name, "impl": impl, "seconds": t.seconds, "bytes": moved, "gb_per_s": moved / t.seconds / 1e9}
                | {"copy_gb_per_s": moved / copy / 1e9, "copy_ratio": copy / t.seconds, "repeats": t.repeats}
                for impl, t in times.items()
            ]
    return rows


def _passes(
    x: Tensor, coef: Tensor, weight: Tensor, input_grad: str, engines: Sequence[str]
) -> list[tuple[str, int, dict[str, Step]]]:
    """Name, least bytes and a call an engine, for both passes."""
    outputs = len(coef) * x.nbytes
    forward: dict[str, Step] = {}
    backward: dict[str, Step] = {}
    for engine in engines:
        how = Phi(5, 3, GRID, exact=input_grad == "exact"), engine
        g = torch.randn_like(spline_autograd.forward(x, coef, weight, *how))
        forward[engine] = partial(spline_autograd.forward, x, coef, weight, *how)
        backward[engine] = partial(spline_autograd.backward, g, x, coef, weight, *how)
    return [("forward", x.nbytes + outputs, forward), ("backward", 2 * x.nbytes + outputs, backward)]


def _check(what: str, wanted: Sequence[str], known: Collection[str]) -> None:
    for name in wanted:
        if name not in known:
            raise UserError(f"unknown {what} {name!r}: choose one of {', '.join(known)}.")


program = Program("kernels", kernels, {"repeats": 20}, without=frozenset({"precision", "compile"}))

if __name__ == "__main__":
    program()
