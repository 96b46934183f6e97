"""Trains the cells of the proxy, a row with a seed each, and leaves what they scored.

python -m benchmarks.proxy.cells FOLDER --rows twin,ka --seeds 0,1,2

A cell that is there is not trained again, so that the same command goes on after an interruption; several may share a folder.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

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
from benchmarks.proxy.rows import ROWS
from benchmarks.proxy.slices import HIPPOCAMPUS, Slices, load_slices, parts, subject_dice
from benchmarks.proxy.trial import predictions, run


def cells(
    folder: Annotated[Path, Argument(help="Folder of the cells.", show_default=False)],
    rows: Annotated[str, listed("Candidates")] = "twin,ka",
    seeds: Annotated[str, listed("Of the trainings")] = "0",
    data: Annotated[Path, Option(help="The hippocampus set, hippocampus_u8.npz.")] = HIPPOCAMPUS,
) -> None:
    """Train the cells that are not there yet, all rows of a seed before the next seed."""
    chosen, numbers = names(rows), [int(seed) for seed in names(seeds)]
    if unknown := [row for row in chosen if row not in ROWS]:
        raise UserError(f"there is no row {unknown[0]!r}: {suggestion(unknown[0], ROWS)}.")
    if not data.is_file():
        raise UserError(f"{data} is not there: give hippocampus_u8.npz with --data.")
    folder.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)  # equal sums on every machine
    split = parts(load_slices(data))
    for seed in numbers:
        for row in chosen:
            path = folder / f"{row.replace('/', '-').replace(' ', '-')}@{seed}.json"
            with _held(path) as mine:
                if mine:
                    _write(path, row, seed, split)


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


def _write(path: Path, name: str, seed: int, split: dict[str, Slices]) -> None:
    row = ROWS[name]
    found = run(row, split, seed)
    network, scale = found.pop("network"), found.pop("scale")
    record = {"row": name, "seed": seed, "options": asdict(row), "parameters": parameter_count(network), **found}
    write_json(path, {**record, **_learned(network, split["val"], scale), "environment": environment("cpu")})
    dice = {part: sum(map(sum, scores)) / sum(map(len, scores)) for part, scores in found["scores"].items()}
    say(f"{path.stem}: Dice {100 * dice['val']:.2f} validation, {100 * dice['test']:.2f} test, {found['seconds']:.0f} s")


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
