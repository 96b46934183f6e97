"""How much memory ``allukan predict`` takes for a large volume on the CPU, as the system counts it at its peak.

python -m benchmarks.volume_memory --help
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
from typer import Option

from allukan.errors import UserError
from allukan.inference.streaming import window_count
from allukan.models import ModelCard, save_model
from benchmarks.program import Program, listed
from benchmarks.report import Result, Row

SPACING_MM = (1.0, 0.75, 0.75)  # of volume and network: no voxel is resampled

Model = Annotated[str, Option(help="A model of allukan train, with random weights.")]
Widths = Annotated[Iterable[str], listed("Channels of its stages.")]
Shape = Annotated[Iterable[str], listed("Slices, rows and columns of the CT.")]
Window = Annotated[Iterable[str], listed("Slices, rows and columns of the sliding window.")]
Classes = Annotated[int, Option(help="Classes beside the background.")]
Tta = Annotated[bool, Option("--tta", help="Predict all flips, too.")]


def volume_memory(
    model: Model = "allukan-tiny",
    widths: Widths = ("4", "8", "16", "24", "32"),
    shape: Shape = ("400", "512", "512"),
    window: Window = ("64", "128", "128"),
    classes: Classes = 2,
    tta: Tta = False,
) -> Result:
    """Peak memory of ``allukan predict`` on a CT of int16: all of the process, libraries included."""
    channels, sides, size = (_numbers(text) for text in (widths, shape, window))
    if min(len(sides), len(size)) != 3 or max(len(sides), len(size)) != 3:
        raise UserError("shape and window have three sides each, as 400,512,512.")
    with tempfile.TemporaryDirectory() as folder:
        at = Path(folder)
        card = _model(at / "model", model, channels, size, classes)
        ct = _ct(at / "ct.mha", sides)
        command = [sys.executable, "-m", "allukan", "predict", str(at / "model"), str(ct), "--out", str(at / "out")]
        peak, seconds = _measured([*command, "--device", "cpu", *["--tta"] * tta])
        row: Row = {
            "volume": "×".join(map(str, sides)),
            "volume_bytes": ct.stat().st_size,
            "model": model,
            "widths": list(channels),
            "logits": card.out_channels,
            "window": "×".join(map(str, size)),
            "windows": window_count(sides, size) * (8 if tta else 1),
            "peak_bytes": peak,
            "total_seconds": seconds,
        }
    return Result([row], ["The peak is that of the whole process, as the kernel counts resident memory; weights are random."])


def _numbers(texts: Iterable[str]) -> tuple[int, ...]:
    try:
        return tuple(int(text) for text in texts)
    except ValueError as error:
        raise UserError(f"whole numbers with commas are expected: {error}.") from None


def _model(folder: Path, model: str, widths: tuple[int, ...], size: tuple[int, ...], classes: int) -> ModelCard:
    torch.manual_seed(0)
    names = tuple(f"organ {number}" for number in range(1, classes + 1))
    how = {"spatial_dims": 3, "normalisation": "image", "spacing_mm": SPACING_MM, "options": {"topology": {"widths": widths}}}
    card = ModelCard(model, 1, names, "multiclass", size, (0.0,), (1.0,), **how)
    save_model(folder, card.build(), card)
    return card


def _ct(path: Path, shape: tuple[int, ...]) -> Path:
    """A MetaImage of noise in int16, -1024 … 3071, written slice by slice."""
    random = np.random.default_rng(0)
    columns = {"NDims": 3, "DimSize": shape[::-1], "ElementSpacing": SPACING_MM[::-1], "ElementType": "MET_SHORT"}
    header = {"ObjectType": "Image", **columns, "BinaryDataByteOrderMSB": False, "ElementDataFile": "LOCAL"}
    lines = [f"{key} = {' '.join(map(str, value)) if isinstance(value, tuple) else value}\n" for key, value in header.items()]
    with path.open("wb") as file:
        file.write("".join(lines).encode("ascii"))
        for _ in range(shape[0]):
            file.write(random.integers(-1024, 3072, shape[1:], dtype="<i2").tobytes())
    return path


def _measured(command: list[str]) -> tuple[int, float]:
    """Bytes at the peak of a command, and the seconds it took; ``UserError`` where it fails."""
    start = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise UserError(f"allukan predict ended with exit code {process.returncode}.")
    return usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024), time.perf_counter() - start


program = Program("volume_memory", volume_memory)

if __name__ == "__main__":
    program()
