"""``allukan``: the commands, and how their errors are told."""

from __future__ import annotations

import typer

from allukan._version import __version__
from allukan.cli import compare, data, demo, doctor, evaluate, inspect, predict, report, study, train
from allukan.cli.console import run

app = typer.Typer(
    name="allukan",
    help="Fully Kolmogorov-Arnold deep models for medical image segmentation.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",  # the other one takes the [defaults] in the help for markup and leaves them out
)
app.command("train")(train.train)
app.command("evaluate")(evaluate.evaluate)
app.command("predict")(predict.predict)
app.command("study")(study.study)
app.command("compare")(compare.compare)
app.command("report")(report.report)
app.command("inspect")(inspect.inspect)
app.command("demo")(demo.demo)
app.command("doctor")(doctor.doctor)
app.add_typer(data.app, name="data", help="Look at datasets, or make one of synthetic ultrasound.")


@app.callback(invoke_without_command=True)
def options(version: bool = typer.Option(False, "--version", help="Print the version and exit.")) -> None:
    """Fully Kolmogorov-Arnold deep models for medical image segmentation."""
    if version:
        print(f"allukan {__version__}")
        raise typer.Exit


def main() -> None:
    """Entry point."""
    run(app, "allukan")
