"""Figures of the report, as SVG or PNG inside a data URI.

No text that a user wrote is drawn (names would need fonts and escaping): names, legends and titles are HTML around the figures.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")  # Okabe and Ito: safe for the colour-blind
TRUTH, PREDICTION = "#56B4E9", "#E69F00"
MANY_CURVES = 12  # beyond this a picture of points is smaller than one of lines
History = Sequence[Mapping[str, float]]


def colour(number: int) -> str:
    """Of the run or curve ``number``, from 0."""
    return COLOURS[number % len(COLOURS)]


def curves(histories: Sequence[History], styles: Mapping[str, str], top: float | None = None) -> str | None:
    """One line a run and column of ``styles`` (column: line style) over the epochs; a data URI, or None with nothing to draw.

    A row without the column, or without a finite value in it, is left out. ``top`` fixes the axis to 0 … ``top``.
    """
    figure = Figure(figsize=(5.2, 3.2), layout="constrained")
    axes = figure.subplots()
    for number, history in enumerate(histories):
        for column, style in styles.items():
            points = [(row.get("epoch", i), row[column]) for i, row in enumerate(history) if np.isfinite(row.get(column, np.nan))]
            if points:
                marker = "o" if len(points) == 1 else ""
                axes.plot(*zip(*points, strict=True), style, color=colour(number), linewidth=1.8, marker=marker)
    if not axes.lines:
        return None
    axes.set_xlabel("epoch")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    if top is not None:
        axes.set_ylim(0, top)
    return _svg(figure)


def overlay(image: NDArray[np.uint8], truth: NDArray[np.bool_], prediction: NDArray[np.bool_]) -> str:
    """Image ``(H, W)`` or ``(H, W, 3)`` with the outlines of truth and prediction ``(K, H, W)``; a data URI."""
    height, width = image.shape[:2]
    figure = Figure(figsize=(4, 4 * float(np.clip(height / width, 0.1, 2.5))), dpi=110)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.imshow(image, cmap="gray", vmin=0, vmax=255)
    for masks, line, style in ((truth, TRUTH, "solid"), (prediction, PREDICTION, "dashed")):
        for mask in masks:
            if mask.any():
                closed = np.pad(mask, 1)  # so that a mask that touches the border has an outline there too
                x, y = np.arange(-1, width + 1).clip(-0.5, width - 0.5), np.arange(-1, height + 1).clip(-0.5, height - 0.5)
                axes.contour(x, y, closed, levels=[0.5], colors=[line], linewidths=2, linestyles=style)
    axes.set(xlim=(-0.5, width - 0.5), ylim=(height - 0.5, -0.5))
    axes.set_axis_off()
    return _png(figure)


def activation(t: NDArray[np.floating], values: NDArray[np.floating]) -> str:
    """Learned activations φ_a(t), values ``(A, P)``, as one small picture; a data URI."""
    figure = Figure(figsize=(1.7, 1.2), dpi=160)
    axes = figure.add_axes((0.02, 0.02, 0.96, 0.96))
    axes.axhline(0, color="#888888", linewidth=0.6)
    axes.axvline(0, color="#888888", linewidth=0.6)
    many = len(values) > MANY_CURVES
    for number, curve in enumerate(values):
        axes.plot(t, curve, color=colour(number), linewidth=0.7 if many else 1.4, alpha=0.6 if many else 1.0)
    axes.set_axis_off()
    return _png(figure, transparent=True) if many else _svg(figure)


def _svg(figure: Figure) -> str:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    return "data:image/svg+xml;base64," + base64.b64encode(buffer.getvalue()).decode()


def _png(figure: Figure, *, transparent: bool = False) -> str:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", transparent=transparent)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
