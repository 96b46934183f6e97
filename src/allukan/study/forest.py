"""The paired differences of a comparison in one figure."""

from __future__ import annotations

from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from allukan.errors import UserError
from allukan.report import DISTANCES, LINE_WIDTH, palette, plain
from allukan.study.comparison import Comparison
from allukan.study.differences import Difference
from allukan.study.results import SCORES

_SUFFIXES = (".png", ".svg", ".pdf")


def draw_forest(comparison: Comparison, path: Path) -> Path:
    """A forest plot, a panel for each data set and protocol, to a PNG, SVG or PDF file.

    Full markers: p by Holm is below 0.05. Raises ``UserError`` for another kind of file and with nothing to draw.
    """
    check_figure(path)
    if not comparison.differences:
        raise UserError(f"nothing was paired with {comparison.reference}: there is nothing to draw in {path}.")
    panels: dict[str, list[Difference]] = {}
    for difference in comparison.differences:
        panels.setdefault(f"{difference.data}, {difference.protocol}", []).append(difference)
    counts = [len(rows) for rows in panels.values()]
    figure = Figure(figsize=(6.4, 0.9 + sum(0.32 * count + 0.45 for count in counts)), layout="constrained")
    grid = figure.subplots(len(panels), 1, sharex=True, squeeze=False, gridspec_kw={"height_ratios": [c + 1 for c in counts]})
    for axes, (title, rows) in zip(grid[:, 0], panels.items(), strict=True):
        for height, row in enumerate(rows):
            sure = row.p_holm < 0.05
            colour, face = (palette.BLUE, palette.BLUE) if sure else (palette.GREY, "white")  # print shows no colour: two markers
            axes.plot(row.crossed.interval, [height, height], color=colour, linewidth=LINE_WIDTH, solid_capstyle="butt")
            axes.plot([row.crossed.mean], [height], "o", color=colour, markerfacecolor=face, markersize=6)
        axes.axvline(0, color=palette.INK, linewidth=0.9, linestyle="--", zorder=0)
        axes.set_title(title, loc="left", fontsize=9, parse_math=False)  # a $ in a name is no formula
        axes.set_yticks(range(len(rows)), [row.model for row in rows], parse_math=False)
        axes.set_ylim(len(rows) - 0.4, -0.6)
        plain(axes, grid="x")
        axes.tick_params(axis="y", length=0)
        axes.xaxis.set_major_locator(MaxNLocator(6))
    better = "lower" if comparison.metric in DISTANCES else "higher"
    what = f"paired difference in {SCORES[comparison.metric]} to {comparison.reference} ({better} is better)"
    over = "images alone" if all(row.crossed.seeds == 1 for row in comparison.differences) else "trainings and images"
    grid[-1, 0].set_xlabel(f"{what},\n95 % interval over {over}; full: p < 0.05 by Holm", fontsize=9, parse_math=False)
    figure.savefig(path, dpi=150)
    return path


def check_figure(path: Path) -> None:
    """``UserError`` unless a figure can be written in this format."""
    if path.suffix.lower() not in _SUFFIXES:
        raise UserError(f"--figure {path} is not usable: give a file name that ends in {', '.join(_SUFFIXES)}.")
