"""Progress and messages on the terminal."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.logging import RichHandler
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

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
