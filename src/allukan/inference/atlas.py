"""The atlas of a trained model: the function behind ``allukan inspect --atlas``."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from allukan.atlas import Course, Portrait, Shares, portrait, write_atlas
from allukan.errors import UserError
from allukan.files import read_table
from allukan.inference.activations import Measured
from allukan.nn.bend import values
from allukan.nn.histogram import learned


def draw_atlas(measured: Measured, model: str | Path, out: Path) -> Path:
    """Write the page on what ``measure_activations`` found of the model folder ``RUN/model``; returns its path.

    With the slider over the training where the run folder has ``coefficients.safetensors``.
    """
    network, found = measured.predictor.model, measured.found
    layers = learned(network)
    portraits = {name: portrait(layers[name], histogram) for name, histogram in measured.histograms.items()}
    folder = Path(model).resolve()
    return write_atlas(
        out,
        f"Activation atlas: {found.model}, {folder.parent.name}/{folder.name}",
        [asdict(row) for row in found.layers],
        portraits,
        note=found.note,
        bend=found.bend,
        shares=Shares(found.dice, found.ka_share),
        course=_course(folder.parent, network, portraits),
    )


def _course(run: Path, network: nn.Module, portraits: Mapping[str, Portrait]) -> Course | None:
    path = run / "coefficients.safetensors"
    if not path.is_file():
        return None
    try:
        kept = load_file(path)
    except (OSError, SafetensorError) as error:
        raise UserError(f"{path} cannot be read ({error}): copy the run folder again, or remove that file.") from None
    layers = {name: layer for name, layer in learned(network).items() if layer.spline.sharing == "layer"}
    widths = {name: 1 + layer.coef.shape[1] for name, layer in layers.items()}
    if not kept or {name: rows.shape[1] for name, rows in kept.items()} != widths:
        raise UserError(f"{path} is of another model than {run / 'model'}: copy the run folder again, or remove that file.")
    phi = {}
    for name, rows in kept.items():
        phi[name] = values(layers[name].spline, rows.double(), torch.from_numpy(portraits[name].t)).numpy()
    there = np.isfinite(next(iter(phi.values()))).all(1)
    epochs = (np.flatnonzero(there) + 1).tolist()
    return Course(epochs, _bends(run / "history.csv", epochs), {name: curves[there] for name, curves in phi.items()})


def _bends(path: Path, epochs: list[int]) -> list[float]:
    """Median bend after these epochs, NaN where the history has none."""
    rows = read_table(path) if path.is_file() else []
    bends = {int(float(row["epoch"])): float(row.get("bend", math.nan)) for row in rows}
    return [bends.get(epoch, math.nan) for epoch in epochs]
