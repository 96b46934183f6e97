"""``allukan demo``: the whole path on synthetic ultrasound."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from allukan.cli.console import say, show_log, show_summary
from allukan.errors import UserError

Option = typer.Option


def demo(
    out: Annotated[Path, Option(help="Folder for data, runs and report; new or empty.")] = Path("demo"),
    epochs: Annotated[int, Option(help="Passes over the training images.")] = 12,
    count: Annotated[int, Option(help="Synthetic images.")] = 240,
    size: Annotated[int, Option(help="Pixels of their sides, and of the networks.")] = 64,
    seed: Annotated[int, Option(help="Of everything.")] = 0,
) -> None:
    """Make phantoms, train ALL U-KAN and its convolutional twin, evaluate both, write report.html (about two minutes)."""
    from allukan import data, inference, study, training

    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"{out} is not empty: choose another --out, nothing is overwritten.")
    show_log()
    say("A data set, two trainings, their scores and a report: about two minutes on two cores.")
    say(f"Making {count} synthetic ultrasound images in {out / 'phantoms'}")
    data.write_phantoms(out / "phantoms", count=count, size=size, seed=seed)
    for model in ("allukan-tiny", "convtwin-tiny"):
        say(f"Training {model}")
        run = out / model
        training.train(
            training.TrainConfig(
                data=str(out / "phantoms"), out=str(run), model=model, size=(size, size), epochs=epochs, seed=seed
            )
        )
        summary = inference.evaluate(inference.open_run(run), predictor=inference.Predictor(run / "model", "auto"))
        show_summary(summary)
    runs = [out / model for model in ("allukan-tiny", "convtwin-tiny")]
    page = study.report(runs, out / "report.html", "ALL U-KAN on synthetic ultrasound")
    say(f"Report: {page.resolve()}")
    say("Next: open it in a browser, then allukan data check on a folder of your own.")
