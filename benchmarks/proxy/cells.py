"""Trains the cells of the proxy, a row with a seed each, and leaves what they scored.

python -m benchmarks.proxy.cells FOLDER --rows twin,ka --seeds 0,1,2

A cell that is there is not trained again, so that the same command goes on after an interruption; several may share a folder.
On a GPU, --together N trains so many at once.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from torch import nn
from typer import Argument, Option

from allukan.cli.console import run as run_program
from allukan.cli.console import say
from allukan.costs import parameter_count
from allukan.errors import UserError, suggestion
from allukan.files import write_json
from allukan.nn.bend import network_bends
from allukan.nn.histogram import collect_inputs
from allukan.nn.straight import ka_share
from allukan.provenance import environment
from benchmarks.program import listed, names
from benchmarks.proxy.pictures import load_folds
from benchmarks.proxy.rows import ROWS
from benchmarks.proxy.slices import HIPPOCAMPUS, Slices, load_slices, parts, subject_dice
from benchmarks.proxy.together import run_together
from benchmarks.proxy.trial import predictions, run

Split = dict[str, Slices]


def cells(
    folder: Annotated[Path, Argument(help="Folder of the cells.", show_default=False)],
    rows: Annotated[str, listed("Candidates")] = "twin,ka",
    seeds: Annotated[str, listed("Of the trainings")] = "0",
    data: Annotated[Path, Option(help="hippocampus_u8.npz, or a file of pictures.")] = HIPPOCAMPUS,
    device: Annotated[str, Option(help="cpu or cuda.")] = "cpu",
    together: Annotated[int, Option(min=1, help="Trainings at once, on a GPU.")] = 1,
    minutes: Annotated[float, Option(help="Begin none afterwards.")] = math.inf,
) -> None:
    """Train the cells that are not there yet, all rows of a seed before the next seed."""
    chosen, numbers = names(rows), [int(seed) for seed in names(seeds)]
    if unknown := [row for row in chosen if row not in ROWS]:
        raise UserError(f"there is no row {unknown[0]!r}: {suggestion(unknown[0], ROWS)}.")
    if not data.is_file():
        raise UserError(f"{data} is not there: give hippocampus_u8.npz with --data.")
    if together > 1 and device != "cuda":
        raise UserError(f"--together {together} is for a GPU: give --device cuda.")
    folder.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)  # equal sums on every machine
    splits, end = _splits(data), time.monotonic() + 60 * minutes
    cells = [Cell(folder, row, seed) for seed in numbers for row in chosen]
    while time.monotonic() < end:
        with ExitStack() as stack:
            free = (cell for cell in cells if not cell.path.exists() and stack.enter_context(_held(cell.path)))
            mine = list(islice(free, together))
            if not mine:
                return
            for cell, found in zip(mine, _trained(mine, splits, device), strict=True):
                _write(cell, found, cell.of(splits)["val"].to(device))


@dataclass(frozen=True)
class Cell:
    """A row with a seed."""

    folder: Path
    row: str
    seed: int

    @property
    def path(self) -> Path:
        """Where its scores go."""
        return self.folder / f"{self.row.replace('/', '-').replace(' ', '-')}@{self.seed}.json"

    def of(self, splits: Sequence[Split]) -> Split:
        """What it trains on: of folds one after the other."""
        return splits[self.seed % len(splits)]


def _splits(path: Path) -> list[Split]:
    """The split of the slices, or the folds of pictures."""
    if "parts" in np.load(path):
        return load_folds(path)
    return [parts(load_slices(path))]


def _trained(cells: list[Cell], splits: list[Split], device: str) -> list[dict[str, Any]]:
    wanted = [(ROWS[cell.row], cell.of(splits), cell.seed) for cell in cells]
    return run_together(wanted) if device == "cuda" else [run(*one) for one in wanted]


@contextmanager
def _held(path: Path) -> Iterator[bool]:
    """Whether the cell is to be trained here: not done, and no other process at it."""
    lock = path.with_suffix(".lock")
    try:
        os.close(os.open(lock, os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        say(f"{path.stem}: another process is at it; remove {lock} if it is not.")
        yield False
        return
    try:
        yield not path.exists()
    finally:
        lock.unlink()


def _write(cell: Cell, found: dict[str, Any], val: Slices) -> None:
    network, scale = found.pop("network"), found.pop("scale")
    about = {"row": cell.row, "seed": cell.seed, "options": asdict(ROWS[cell.row]), "parameters": parameter_count(network)}
    learned = _learned(network, val, scale)
    write_json(cell.path, {**about, **found, **learned, "environment": environment(val.images.device)})
    dice = {part: sum(map(sum, scores)) / sum(map(len, scores)) for part, scores in found["scores"].items()}
    say(f"{cell.path.stem}: Dice {100 * dice['val']:.2f} validation, {100 * dice['test']:.2f} test, {found['seconds']:.0f} s")


def _learned(network: nn.Module, val: Slices, scale: tuple[float, float]) -> dict[str, Any]:
    """Bend of every layer, and the Dice in points that all splines together and each alone carry, on validation."""
    met = collect_inputs(network, ((x.float() / 255 - scale[0]) / scale[1] for x in val.images[::4].split(64)))
    if not met:
        return {}

    def score(network: nn.Module) -> float:
        return 100 * float(subject_dice(predictions(network, val, *scale), val.masks, val.subjects).mean())

    share = ka_share(network, met, score, each=False)
    return {"bends": network_bends(network, met), "ka_share": share.total}


if __name__ == "__main__":
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(cells)
    run_program(app, "benchmarks")
