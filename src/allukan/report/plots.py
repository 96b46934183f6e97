"""Figures of the report, as SVG or PNG inside a data URI.

No text that a user wrote is drawn (names would need fonts and escaping): names, legends and titles are HTML around the figures.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from allukan.report.palette import GREY, LINES, pick

LINE_WIDTH = 1.8
MANY_CURVES = 12  # beyond this a picture of points is smaller than one of lines
History = Sequence[Mapping[str, float]]


def plain(axes: Axes, grid: Literal["both", "x"] = "both") -> None:
    """The look of all our axes: a faint grid, and no frame; with a grid along x alone the left line goes too."""
    axes.grid(axis=grid, alpha=0.25)
    axes.spines[["top", "right"] if grid == "both" else ["top", "right", "left"]].set_visible(False)


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
                axes.plot(*zip(*points, strict=True), style, color=pick(LINES, number), linewidth=LINE_WIDTH, marker=marker)
    if not axes.lines:
        return None
    axes.set_xlabel("epoch")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    plain(axes)
    if top is not None:
        axes.set_ylim(0, top)
    return svg(figure)


def activation(t: NDArray[np.floating], values: NDArray[np.floating]) -> str:
    """Learned activations φ_a(t), values ``(A, P)``, as one small picture; a data URI."""
    figure = Figure(figsize=(1.7, 1.2), dpi=160)
    axes = figure.add_axes((0.02, 0.02, 0.96, 0.96))
    axes.axhline(0, color=GREY, linewidth=0.6)
    axes.axvline(0, color=GREY, linewidth=0.6)
    many = len(values) > MANY_CURVES
    for number, curve in enumerate(values):
        axes.plot(t, curve, color=pick(LINES, number), linewidth=0.7 if many else 1.4, alpha=0.6 if many else 1.0)
    axes.set_axis_off()
    return png(figure, transparent=True) if many else svg(figure)


def svg(figure: Figure) -> str:
    """A figure as a data URI, without a background: the page has one."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    return "data:image/svg+xml;base64," + base64.b64encode(buffer.getvalue()).decode()


def png(figure: Figure, *, transparent: bool = False) -> str:
    """A figure as a data URI."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", transparent=transparent)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
