"""``allukan report``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from allukan.cli.console import TRUST, check_page, counting, say, show_log


def report(
    runs: Annotated[
        list[Path],
        typer.Argument(help="Evaluated run folders, of trainings in folds too, or the folder of a study.", show_default=False),
    ],
    out: Annotated[Path, typer.Option(help="The HTML file to write.")] = Path("report.html"),
    title: Annotated[str, typer.Option(help="Heading of the page.")] = "Segmentation report",
    evaluation: Annotated[
        Path | None, typer.Option(help="Scores of the one run, another folder that evaluate wrote  [RUN/evaluation]")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda …")] = "auto",
    trust: Annotated[bool, typer.Option("--trust", help=TRUST)] = False,
) -> None:
    """Write one self-contained HTML page: scores, every case, pictures of failures, calibration, sizes, training.

    Several runs, or those of a study, are shown side by side and compared. The models are applied to their test images once more.
    """
    from allukan import study

    check_page(out, "report.html")
    show_log()
    say(f"Reporting on {', '.join(map(str, runs))}: models are applied once more to the images that they were scored on.")
    with counting("applying the models") as show:
        page = study.report(runs, out, title, device, trust, show, evaluation)
    say(f"Report: {page}")
    say("Next: open it in a browser; it needs no network.")
