"""The look of the figures that matplotlib draws: of studies and benchmarks."""

from __future__ import annotations

from typing import Literal

from matplotlib.axes import Axes

LINE_WIDTH = 1.8


def plain(axes: Axes, grid: Literal["both", "x"] = "both") -> None:
    """The look of all our axes: a faint grid, and no frame; with a grid along x alone the left line goes too."""
    axes.grid(axis=grid, alpha=0.25)
    axes.spines[["top", "right"] if grid == "both" else ["top", "right", "left"]].set_visible(False)
