"""The figure of the efficiency table: what every model keeps and holds against the time of its training step."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from allukan.report import palette, plain
from benchmarks.pages import save
from benchmarks.report import Row, machine

COLOURS = {
    "allukan": palette.VERMILION,
    "convtwin": palette.BLUE,
    "edgekan": palette.PURPLE,
    "stackedkan": palette.ORANGE,
    "ukan": palette.GREEN,
}
_PLACES = ((6, 4), (6, -10), (-6, 4), (-6, -10), (0, 9), (0, -15), (6, 12), (6, -18), (-6, 12), (-6, -18))  # points


def draw(path: Path, rows: Sequence[Row], where: Row) -> None:
    """Saved bytes and parameters against the time of a step, log axes; PNG or SVG as the name of ``path`` ends."""
    figure = Figure(figsize=(11, 5.2), layout="constrained", dpi=110)
    axes = figure.subplots(1, 2, sharey=True)
    for place, key, unit, label in (
        (axes[0], "saved_bytes", 2**20, "kept for the backward pass, MiB"),
        (axes[1], "parameters", 1e6, "parameters, millions"),
    ):
        for row in rows:
            seen = "step_seconds" in row
            colour = COLOURS.get(row["name"].split("-")[0], palette.GREY)
            if seen:
                place.plot(row[key] / unit, row["step_seconds"], "o", color=colour, markersize=6)
            else:
                place.axvline(row[key] / unit, color=colour, linewidth=0.8, linestyle=":")
        place.set(xscale="log", yscale="log", xlabel=label)
        plain(place)
        place.margins(0.12)
    axes[0].set_ylabel("training step, s")
    figure.suptitle(f"{where['images']} on {machine(where)}", fontsize=10)
    figure.draw_without_rendering()
    for place, key, unit in ((axes[0], "saved_bytes", 2**20), (axes[1], "parameters", 1e6)):
        _label(place, [(row["name"], row[key] / unit, row.get("step_seconds")) for row in rows])
    save(figure, path)


def _label(axes: Axes, points: Sequence[tuple[str, float, float | None]]) -> None:
    """Names beside their points, where no other name or point is; those without a time along their line at the bottom."""
    bottom = axes.get_ylim()[0]
    lines = [point for point in points if point[2] is None]
    for name, x, _ in lines:
        axes.annotate(f"{name} (not run)", (x, bottom), (2, 4), textcoords="offset points", fontsize=7, rotation=90, va="bottom")
    seen = [(name, x, y) for name, x, y in points if y is not None]
    taken = [axes.transData.transform((x, y)) for _, x, y in seen]
    boxes: list[Any] = []
    for name, x, y in sorted(seen, key=lambda point: point[2]):
        for dx, dy in _PLACES:
            side = "left" if dx > 0 else "right" if dx < 0 else "center"
            text = axes.annotate(name, (x, y), (dx, dy), textcoords="offset points", fontsize=7.5, ha=side)
            box = text.get_window_extent()
            if not any(box.overlaps(b) for b in boxes) and not any(box.contains(*p) for p in taken):
                break
            if (dx, dy) != _PLACES[-1]:
                text.remove()
        boxes.append(box)
