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
from typing import Annotated, Any, TypeVar

import numpy as np
import torch
from typer import Option

from allukan.data.volumes import Geometry
from allukan.errors import UserError
from allukan.inference.streaming import window_count
from allukan.models import ModelCard, save_model
from benchmarks.program import Program, listed
from benchmarks.report import Result, Row

N = TypeVar("N", int, float)
SPACING_MM = (1.0, 0.75, 0.75)  # of the CT

Model = Annotated[str, Option(help="A model of allukan train, with random weights.")]
Widths = Annotated[Iterable[str], listed("Channels of its stages.")]
Shape = Annotated[Iterable[str], listed("Slices, rows and columns of the CT.")]
Window = Annotated[Iterable[str], listed("Slices, rows and columns of the sliding window.")]
Voxel = Annotated[Iterable[str], listed("Voxel of the network in mm; the CT has 1,0.75,0.75, to which probabilities go back.")]
Classes = Annotated[int, Option(help="Classes beside the background.")]
Tta = Annotated[bool, Option("--tta", help="Predict all flips, too.")]


def volume_memory(
    model: Model = "allukan-tiny",
    widths: Widths = ("4", "8", "16", "24", "32"),
    shape: Shape = ("400", "512", "512"),
    window: Window = ("64", "128", "128"),
    voxel_mm: Voxel = ("1", "0.75", "0.75"),
    classes: Classes = 2,
    tta: Tta = False,
) -> Result:
    """Peak memory of ``allukan predict`` on a CT of int16: all of the process, libraries included."""
    channels, sides, size = (_numbers(texts, int) for texts in (widths, shape, window))
    spacing_mm = _numbers(voxel_mm, float)
    if any(len(each) != 3 for each in (sides, size, spacing_mm)):
        raise UserError("shape, window and voxel_mm have three sides each, as 400,512,512.")
    with tempfile.TemporaryDirectory() as folder:
        at = Path(folder)
        card = _model(at / "model", model, channels, size, spacing_mm, classes)
        ct = _ct(at / "ct.mha", sides)
        command = [sys.executable, "-m", "allukan", "predict", str(at / "model"), str(ct), "--out", str(at / "out")]
        peak, seconds = _measured([*command, "--device", "cpu", *["--tta"] * tta])
        scaled = Geometry.of_pixels(sides, SPACING_MM).shape_at(spacing_mm)
        row: Row = {
            "volume": "×".join(map(str, sides)),
            "volume_bytes": ct.stat().st_size,
            "model": model,
            "widths": list(channels),
            "logits": card.out_channels,
            "window": "×".join(map(str, size)),
            "voxel_mm": "×".join(f"{side:g}" for side in spacing_mm),
            "windows": window_count(scaled, size) * (8 if tta else 1),
            "peak_bytes": peak,
            "total_seconds": seconds,
        }
    return Result([row], ["The peak is that of the whole process, as the kernel counts resident memory; weights are random."])


def _numbers(texts: Iterable[str], kind: type[N]) -> tuple[N, ...]:
    try:
        return tuple(kind(text) for text in texts)
    except ValueError as error:
        raise UserError(f"numbers with commas are expected: {error}.") from None


def _model(
    folder: Path, model: str, widths: tuple[int, ...], size: tuple[int, ...], spacing_mm: tuple[float, ...], classes: int
) -> ModelCard:
    torch.manual_seed(0)
    names = tuple(f"organ {number}" for number in range(1, classes + 1))
    how: dict[str, Any] = {
        "spatial_dims": 3,
        "normalisation": "image",
        "spacing_mm": spacing_mm,
        "options": {"topology": {"widths": widths}},
    }
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
