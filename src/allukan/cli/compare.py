"""``allukan compare``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from allukan.cli.console import TRUST, say, show_log
from allukan.files import write_text

Option = typer.Option


def compare(
    folders: Annotated[list[Path], typer.Argument(help="Folder of a study, or evaluated run folders.", show_default=False)],
    against: Annotated[str | None, Option(help="Model that the others are compared with  [the first]")] = None,
    metric: Annotated[str, Option(help="Of the paired differences: iou, dice, hd95, surface_dice, or group_dice")] = "iou",
    detect: Annotated[float | None, Option(help="Difference that 'trainings needed' is about  [0.005; of HD95 0.5]")] = None,
    style: Annotated[str, Option("--format", help="markdown, latex or csv")] = "markdown",
    out: Annotated[Path | None, Option(help="File for the tables  [print them]")] = None,
    trust: Annotated[bool, Option("--trust", help=TRUST)] = False,
    figure: Annotated[Path | None, Option(help="Forest plot of the differences: FILE.png, .svg or .pdf")] = None,
) -> None:
    """Compare models on the same test images: paired differences, intervals over trainings and images."""
    from allukan import study

    if figure is not None:
        study.check_figure(figure)
    if out is not None:
        study.check_tables(out)
    show_log()
    found = study.compare(folders, against, metric, detect, trust)
    text = study.render(found.tables, style)
    if out is None:
        print(text)
    else:
        write_text(out, text)
        say(f"Written: {out}")
    if figure is not None:
        say(f"Figure: {study.draw_forest(found, figure)}")
