"""Normalisation in the spline's kernels against the bandwidth that a plain copy reaches in the same run, pass by pass.

python benchmarks/gpu/norm_bandwidth.py --out benchmarks/results/norm_gpu.json
"""

from __future__ import annotations

import argparse
import itertools
import json
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.benchmark import Timer

from allukan.ops.engines.dispatch import ENGINES, choose
from allukan.ops.normalise import ChannelNorm
from allukan.ops.phi import Phi

NORMS = {"batch": ChannelNorm(0, False, 1e-5), "instance": ChannelNorm(0, True, 1e-5), "group": ChannelNorm(8, True, 1e-5)}
FORMATS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}
DTYPES = [torch.bfloat16, torch.float32]
SHAPES = [(8, 64, 256, 256), (8, 128, 64, 64), (32, 512, 8, 8)]  # long lines, the usual, short ones


def passes(x: Tensor, norm: ChannelNorm, exact: bool) -> Iterator[tuple[str, int, Callable[[], Any]]]:
    """Name, sizes of x that are moved at least, and the call."""
    phi, channels = Phi(5, 3, (-3.0, 3.0), exact=exact), x.shape[1]
    engine = ENGINES[choose(phi, x.device.type, x.dtype)]
    coef, weight, gamma = (torch.randn(s, device=x.device) for s in ((1, 8), (1,), (channels,)))
    found = engine.NORM.statistics(x, norm)
    to = engine.NORM.affine(found, gamma, gamma, norm, channels)
    inner, _, _, sums = engine.backward(torch.randn_like(x), x, coef, weight, phi, to)
    of_input = engine.NORM.input_gradient(sums, found, gamma, norm, channels)
    g = torch.randn_like(x)
    yield "statistics", 1, lambda: engine.NORM.statistics(x, norm)
    yield "affine", 0, lambda: engine.NORM.affine(found, gamma, gamma, norm, channels)
    yield "forward", 2, lambda: engine.forward(x, coef, weight, phi, to)
    yield "forward without a norm", 2, lambda: engine.forward(x, coef, weight, phi)
    yield "backward", 3, lambda: engine.backward(g, x, coef, weight, phi, to)
    yield "backward without a norm", 3, lambda: engine.backward(g, x, coef, weight, phi)
    yield "input_gradient", 0, lambda: engine.NORM.input_gradient(sums, found, gamma, norm, channels)
    yield "apply_gradient", 3, lambda: engine.NORM.apply_gradient(inner, x, of_input)


def seconds(call: Callable[[], Any], least: float) -> float:
    """Median of one call; the first ones compile."""
    for _ in range(3):
        call()
    return Timer("call()", globals={"call": call}).blocked_autorange(min_run_time=least).median


def rows(device: str, least: float) -> Iterator[dict[str, Any]]:
    """One a pass; ``copy_ratio`` is its bandwidth against that of a copy of as many bytes."""
    for dtype, shape, memory, norm, exact in itertools.product(DTYPES, SHAPES, FORMATS, NORMS, (True, False)):
        x = torch.randn(shape, device=device).to(dtype, memory_format=FORMATS[memory])
        first = {"dtype": str(dtype), "shape": shape, "format": memory, "norm": norm, "exact": exact}
        for name, sizes, call in passes(x, NORMS[norm], exact):
            took = seconds(call, least)
            row = {**first, "pass": name, "seconds": took}
            if sizes:
                half = torch.empty(sizes * x.nbytes // 2, dtype=torch.uint8, device=device)
                row["copy_ratio"] = seconds(partial(torch.empty_like(half).copy_, half), least) / took
            yield row


def main() -> None:
    """See above."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--seconds", type=float, default=0.1, help="of measuring a pass, at least")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    name = torch.cuda.get_device_name() if options.device == "cuda" else options.device
    found = list(rows(options.device, options.seconds))
    options.out.write_text(json.dumps({"device": name, "rows": found}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
