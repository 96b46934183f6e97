"""``allukan report``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from allukan.cli.console import TRUST, say, show_log
from allukan.errors import UserError


def report(
    runs: Annotated[list[Path], typer.Argument(help="Evaluated run folders.", show_default=False)],
    out: Annotated[Path, typer.Option(help="The HTML file to write.")] = Path("report.html"),
    title: Annotated[str, typer.Option(help="Heading of the page.")] = "Segmentation report",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda …")] = "auto",
    trust: Annotated[bool, typer.Option("--trust", help=TRUST)] = False,
) -> None:
    """Write one self-contained HTML page on runs side by side: curves, scores, overlays, learned activations."""
    from allukan import inference

    if out.is_dir():
        raise UserError(f"{out} is a folder: give --out a file name, as {out / 'report.html'}.")
    show_log()
    opened = [inference.open_run(run) for run in runs]
    say(f"Report: {inference.report(opened, out, title, device, trust)}")
