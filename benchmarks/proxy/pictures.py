"""A set of pictures at one size as a file of tensors, with five folds: what confirms, or does not, what the proxy finds.

python -m benchmarks.proxy.pictures ../shared/data/busi_256 --size 96 --out ../lane/busi_96.npz

``benchmarks.proxy.cells --data`` takes such a file: seed s trains the fold s mod 5 with that seed, so that five seeds test every
image once. Folds are those of the protocol "clean": groups and near-duplicates stay together.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from typer import Argument, Option

from allukan.cli.console import run as run_program
from allukan.data import load_groups, make_folds, open_dataset, prepare
from allukan.errors import UserError
from benchmarks.proxy.slices import Slices

FOLDS = 5  # seed s trains fold s mod 5
_PARTS = ("train", "val", "test")


def pictures(
    folder: Annotated[Path, Argument(help="The dataset.", show_default=False)],
    out: Annotated[Path, Option(help="The file, .npz.")],
    size: Annotated[int, Option(min=16, help="Sides of the images.")] = 96,
) -> None:
    """Write images, masks and, a fold, the part of every image."""
    dataset = open_dataset(folder)
    if out.exists():
        raise UserError(f"{out} exists already: remove it, or choose another --out.")
    prepared = prepare(dataset, dataset.select(dataset.ids), (size, size))
    splits = make_folds(dataset, FOLDS, groups=load_groups(dataset, None))
    part = {(k, name): _PARTS.index(of) for k, split in enumerate(splits) for of in _PARTS for name in getattr(split, of)}
    parts = np.array([[part[k, name] for name in prepared.ids] for k in range(FOLDS)], np.uint8)
    out.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(out, images=prepared.images, masks=prepared.masks, parts=parts)


def load_folds(path: Path) -> list[dict[str, Slices]]:
    """Train, validation and test of every fold; a picture is a subject."""
    stored = np.load(path)
    images, masks, parts = (torch.from_numpy(stored[name]) for name in ("images", "masks", "parts"))
    every = Slices(images, masks, torch.arange(len(images)))
    return [{name: every.of(every.subjects[of == k]) for k, name in enumerate(_PARTS)} for of in parts]


if __name__ == "__main__":
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(pictures)
    run_program(app, "benchmarks")
