"""Progress and messages on the terminal."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.logging import RichHandler
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

console = Console(highlight=False)


def show_log() -> None:
    """Messages of the package go to stderr, one line each."""
    log = logging.getLogger("allukan")
    if not log.handlers:
        handler = RichHandler(
            console=Console(stderr=True, highlight=False), show_level=False, show_path=False, show_time=False, markup=False
        )
        log.addHandler(handler)
    log.setLevel(logging.INFO)


@contextmanager
def progress_bar(what: str) -> Iterator[Progress]:
    """A bar on stderr that disappears when done."""
    columns = (TextColumn(what), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        yield bar


def show_wide(table: Table) -> None:
    """A table whose numbers stay whole where the terminal is narrower, or a pipe."""
    Console(highlight=False, width=max(console.width, 160)).print(table)


def show_summary(summary: dict[str, Any]) -> None:
    """A table of means and 95 % intervals, overall and a class, and the figures of the ukan protocol."""
    overall = summary["overall"]
    table = Table(title=f"{escape(summary['model'])}, {summary['subset']}: {overall['cases']} masks, mean (95 % interval)")
    for column in ("class", "Dice", "IoU", f"HD95 ({summary['distance_unit']})", "surface Dice", "outcome"):
        table.add_column(column)
    classes = summary["classes"] if len(summary["classes"]) > 1 else {}
    for name, figures in {"all": overall, **classes}.items():
        scores = [_score(figures[key], 1 if key == "hd95" else 3) for key in ("dice", "iou", "hd95", "surface_dice")]
        outcome = ", ".join(f"{count} {status.replace('_', ' ')}" for status, count in figures["status"].items())
        table.add_row(escape(name), *scores, outcome)
    console.print(table)
    for name, value in summary.get("ukan", {}).items():
        console.print(f"ukan protocol, {name.replace('_', ' ')}: {value:.4f}")


def _score(figure: dict[str, float], digits: int) -> str:
    return f"{figure['mean']:.{digits}f}\n{figure['low']:.{digits}f} … {figure['high']:.{digits}f}"
