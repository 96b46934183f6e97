"""``allukan data``."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated, Any

import typer

from allukan.cli.console import console, say
from allukan.cli.parameters import takes
from allukan.options import LabelRules, TrainConfig, parse_ignore

app = typer.Typer(no_args_is_help=True)
_NOTES = 20  # that are shown; problems are all shown


@app.command()
@takes(TrainConfig, "groups", "splits", "fold", "ignore", "foreground")
def check(
    folder: Annotated[Path, typer.Argument(help="Dataset folder.", show_default=False)],
    **given: Any,
) -> None:
    """Say what a dataset holds and what is wrong with it. Exit code 1 when a training would fail."""
    from rich.table import Table

    from allukan.data import check_dataset

    again = _words(given)
    rules = LabelRules(parse_ignore(given.pop("ignore")), bool(given.pop("foreground")))
    say(f"Checking {folder}: every image and mask is read, and near-duplicates are searched.")
    result = check_dataset(folder, rules, **given)
    facts = Table(show_header=False, box=None)
    facts.add_column()
    facts.add_column(overflow="fold")
    for name, value in result.facts.items():
        facts.add_row(name, value)
    console.print(facts)
    notes = [finding for finding in result.findings if not finding.fatal]
    for finding in [*(f for f in result.findings if f.fatal), *notes[:_NOTES]]:
        named = finding.where == str(folder) and finding.what.startswith(finding.where)
        where = "" if named else f"{finding.where}: "
        say(f"{where}{finding.what}", *(("problem", "red") if finding.fatal else ("note", "yellow")))
    if len(notes) > _NOTES:
        say(f"and {len(notes) - _NOTES} more notes", "note", "yellow")
    fatal = sum(finding.fatal for finding in result.findings)
    if not result.trainable:
        say(f"{fatal} {'problems: mend them' if fatal > 1 else 'problem: mend it'} before training.")
        raise typer.Exit(1)
    say(f"Ready to train. Next: {shlex.join(['allukan', 'train', str(folder), *again, '--out', 'RUN'])}")


def _words(given: dict[str, Any]) -> list[str]:
    """Options as the shell takes them."""
    named = {f"--{name}": value for name, value in given.items() if value is not None and value is not False}
    return [word for name, value in named.items() for word in ([name] if value is True else [name, str(value)])]


@app.command()
def phantoms(
    folder: Annotated[Path, typer.Argument(help="Folder to make; new or empty.", show_default=False)],
    count: Annotated[int, typer.Option(help="Images.")] = 200,
    size: Annotated[int, typer.Option(help="Pixels of their sides.")] = 128,
    seed: Annotated[int, typer.Option(help="The same seed gives the same images.")] = 0,
) -> None:
    """Make synthetic ultrasound images with lesions and their masks."""
    from allukan.data import write_phantoms

    dataset = write_phantoms(folder, count, size, seed)
    say(f"{len(dataset.cases)} images written to {folder}")
    say(f"Next: {shlex.join(['allukan', 'data', 'check', str(folder)])}")
