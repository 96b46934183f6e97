"""Figures of the report, as SVG or PNG inside a data URI."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")  # Okabe and Ito
TRUTH, PREDICTION = "#56B4E9", "#E69F00"
History = Sequence[Mapping[str, float]]


def curves(histories: Mapping[str, History]) -> str:
    """Training loss, and validation Dice, of every run over the epochs; a data URI."""
    figure = Figure(figsize=(9, 3.2), layout="constrained")
    panels: tuple[Axes, Axes] = figure.subplots(1, 2)
    for axes, title, lines in zip(
        panels,
        ("loss", "validation Dice"),
        ((("train_loss", "-"), ("val_loss", "--")), (("val_dice", "-"),)),
        strict=True,
    ):
        for colour, (name, history) in zip(COLOURS * len(histories), histories.items(), strict=False):
            for key, style in lines:
                points = [(row["epoch"], row[key]) for row in history if key in row]
                label = f"{name}, {'validation' if style == '--' else 'training'}" if len(lines) > 1 else name
                if points:
                    axes.plot(*zip(*points, strict=True), style, color=colour, linewidth=1.6, label=label)
        axes.set_title(title, fontsize=10)
        axes.set_xlabel("epoch")
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(fontsize=8, frameon=False)
    panels[1].set_ylim(0, 1)
    return _svg(figure)


def overlay(image: NDArray[np.uint8], truth: NDArray[np.bool_], prediction: NDArray[np.bool_]) -> str:
    """Image ``(H, W)`` or ``(H, W, 3)`` with the outlines of truth and prediction ``(K, H, W)``; a data URI."""
    height, width = image.shape[:2]
    figure = Figure(figsize=(4, 4 * height / width), dpi=110)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.imshow(image, cmap="gray", vmin=0, vmax=255)
    for masks, colour, style in ((truth, TRUTH, "solid"), (prediction, PREDICTION, "dashed")):
        for mask in masks:
            if mask.any() and not mask.all():
                axes.contour(mask, levels=[0.5], colors=[colour], linewidths=2, linestyles=style)
    axes.set_axis_off()
    return _png(figure)


def activation(t: NDArray[np.floating], values: NDArray[np.floating]) -> str:
    """Learned activations φ_a(t), values ``(A, P)``, as one small picture; a data URI."""
    figure = Figure(figsize=(1.7, 1.2))
    axes = figure.add_axes((0.02, 0.02, 0.96, 0.96))
    axes.axhline(0, color="#888888", linewidth=0.6)
    axes.axvline(0, color="#888888", linewidth=0.6)
    for i, curve in enumerate(values):
        axes.plot(t, curve, color=COLOURS[i % len(COLOURS)], linewidth=1.4)
    axes.set_axis_off()
    return _svg(figure)


def _svg(figure: Figure) -> str:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    return "data:image/svg+xml;base64," + base64.b64encode(buffer.getvalue()).decode()


def _png(figure: Figure) -> str:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
