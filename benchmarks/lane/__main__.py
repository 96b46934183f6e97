"""The command line behind `make lane`, `lane-pause`, `lane-status` and `lane-results`."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Annotated

import typer

from allukan.cli.console import run, say, show_log
from allukan.errors import UserError
from benchmarks.lane.holder import pause, worker

ROOT = Path(__file__).parents[2]
app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
Lane = Annotated[Path, typer.Argument(help="Folder of the lane, outside the repository.")]
Order = Annotated[Path, typer.Option(help="What to do, in this order.")]
ORDER = ROOT / "benchmarks" / "studies" / "lane.yaml"


def _place(lane: Path) -> Path:
    place = lane.resolve()
    if place.is_relative_to(ROOT):
        raise UserError(f"the lane {place} is inside the repository: choose another, make lane LANE=../lane.")
    return place


@app.command("start")
def start_command(lane: Lane, order: Order = ORDER) -> None:
    """Start what is unfinished, in the background."""
    from benchmarks.lane.worker import start

    say(f"The lane has started; its log is {start(order.resolve(), _place(lane))}.")


@app.command("work")
def work_command(lane: Lane, order: Order = ORDER) -> None:
    """Do what is unfinished, here."""
    from benchmarks.lane.worker import work

    show_log()
    logging.getLogger("allukan").handlers[0].setFormatter(logging.Formatter("%(asctime)s %(message)s"))
    work(order.resolve(), _place(lane))


@app.command("pause")
def pause_command(lane: Lane) -> None:
    """End what runs; `make lane` goes on with it from its last epoch."""
    say("Paused; make lane goes on." if pause(_place(lane)) else "The lane is not running.")


@app.command("status")
def status_command(lane: Lane, order: Order = ORDER) -> None:
    """How far every entry is, and the time left at the pace so far."""
    from allukan.study import duration
    from benchmarks.lane.entries import read_order

    place = _place(lane)
    running = worker(place)
    say("The lane is not running." if running is None else f"The lane runs (process {running}).")
    for entry in read_order(order.resolve(), place):
        progress = entry.progress()
        left = "" if progress.seconds is None else f", about {duration(progress.seconds)} left"
        say(f"{entry.name}: {progress.done} of {progress.total} done{left}")
        for name in progress.begun:
            say(f"  begun   {name}")
        for name in progress.failed:
            say(f"  failed  {name}")


@app.command("results")
def results_command(
    lane: Lane,
    order: Order = ORDER,
    to: Annotated[Path, typer.Option(help="Folder for the copies.")] = ROOT / "benchmarks" / "results" / "lane",
) -> None:
    """Copy what is finished into the repository, without weights."""
    from benchmarks.lane.entries import read_order
    from benchmarks.lane.results import copy_results

    for name, count in copy_results(read_order(order.resolve(), _place(lane)), to).items():
        say(f"{name}: {count} files copied to {to / name}" if count else f"{name}: nothing is finished")


if __name__ == "__main__":
    run(app, "lane")
