"""Pages and figures whose numbers come from a result, so that one command renews them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from allukan.bench.measure import Row
from allukan.errors import UserError
from allukan.files import read_text, write_text

COLOURS = {"allukan": "#D55E00", "convtwin": "#0072B2", "edgekan": "#CC79A7", "stackedkan": "#882255", "ukan": "#009E73"}
_OTHERS = "#777777"
_PLACES = ((6, 4), (6, -10), (-6, 4), (-6, -10), (0, 9), (0, -15), (6, 12), (6, -18), (-6, 12), (-6, -18))  # points


def check_page(page: Path | None, name: str) -> None:
    """``UserError`` unless the page, if any, has the lines ``<!-- NAME -->`` and ``<!-- /NAME -->`` for a table."""
    if page is not None:
        _around(page, name)


def fill_block(page: Path, name: str, text: str) -> None:
    """Put ``text`` between the lines ``<!-- NAME -->`` and ``<!-- /NAME -->`` of a page; raises as ``check_page`` does."""
    before, after = _around(page, name)
    write_text(page, f"{before}\n{text}\n\n{after}")


def _around(page: Path, name: str) -> tuple[str, str]:
    first, last = f"<!-- {name} -->\n", f"<!-- /{name} -->"
    before, opened, rest = (read_text(page) if page.is_file() else "").partition(first)
    _, closed, after = rest.partition(last)
    if not opened or not closed:
        raise UserError(f"{page} has no lines {first.strip()} and {last}: add them where the table shall stand.")
    return before + first, last + after


def provenance(environment: Row) -> str:
    """Where a result comes from, in one line: command, commit, date, machine, versions."""
    e = environment
    return f"`{e['command']}`; commit {str(e['commit'])[:10]}, {e['date'][:10]}, {e['device']}, torch {e['versions']['torch']}."


def draw_efficiency(path: Path, rows: Sequence[Row], title: str) -> None:
    """Saved bytes and parameters against the time of a step, log axes; PNG or SVG as the name of ``path`` ends."""
    figure = Figure(figsize=(11, 5.2), layout="constrained", dpi=110)
    axes = figure.subplots(1, 2, sharey=True)
    for place, key, unit, label in (
        (axes[0], "saved_bytes", 2**20, "kept for the backward pass, MiB"),
        (axes[1], "parameters", 1e6, "parameters, millions"),
    ):
        for row in rows:
            seen = "step_seconds" in row
            colour = COLOURS.get(row["name"].split("-")[0], _OTHERS)
            if seen:
                place.plot(row[key] / unit, row["step_seconds"], "o", color=colour, markersize=6)
            else:
                place.axvline(row[key] / unit, color=colour, linewidth=0.8, linestyle=":")
        place.set(xscale="log", yscale="log", xlabel=label)
        place.grid(alpha=0.25)
        place.spines[["top", "right"]].set_visible(False)
        place.margins(0.12)
    axes[0].set_ylabel("training step, s")
    figure.suptitle(title, fontsize=10)
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


def check_figure(path: Path | None) -> None:
    """``UserError`` unless the figure, if any, can be drawn: PNG or SVG, in a folder that exists."""
    if path is not None and (path.suffix.lower() not in (".png", ".svg") or not path.parent.is_dir()):
        raise UserError(f"{path} cannot be drawn: end its name in .png or .svg, in a folder that exists.")


def save(figure: Figure, path: Path) -> None:
    """Write a figure; raises as ``check_figure`` does. The same figure gives the same SVG, whatever the date."""
    check_figure(path)
    figure.savefig(path, metadata={"Date": None} if path.suffix.lower() == ".svg" else None)
