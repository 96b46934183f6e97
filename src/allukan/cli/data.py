"""``allukan data``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from allukan.cli.console import console, say

app = typer.Typer(no_args_is_help=True)
_NOTES = 20  # that are shown; problems are all shown


@app.command()
def check(
    folder: Annotated[Path, typer.Argument(help="Dataset folder.", show_default=False)],
    groups: Annotated[str | None, typer.Option(help="Images that belong together: FILE.csv[:COLUMN] or re:REGEX")] = None,
    splits: Annotated[
        str | None, typer.Option(help="Your split: splits.json, splits_final.json, or a CSV of id and split")
    ] = None,
    fold: Annotated[int | None, typer.Option(help="Fold that validates, where the split has folds  [the first]")] = None,
    ignore: Annotated[str | None, typer.Option(help="Value of the label that counts nowhere, or none.")] = None,
    foreground: Annotated[bool, typer.Option("--foreground", help="Every label as one class.")] = False,
) -> None:
    """Say what a dataset holds and what is wrong with it. Exit code 1 when a training would fail."""
    from rich.table import Table

    from allukan.data import LabelRules, check_dataset, parse_ignore

    result = check_dataset(folder, LabelRules(parse_ignore(ignore), foreground), groups=groups, splits=splits, fold=fold)
    facts = Table(show_header=False, box=None)
    facts.add_column()
    facts.add_column(overflow="fold")
    for name, value in result.facts.items():
        facts.add_row(name, value)
    console.print(facts)
    notes = [finding for finding in result.findings if not finding.fatal]
    for finding in [*(f for f in result.findings if f.fatal), *notes[:_NOTES]]:
        say(f"{finding.where}: {finding.what}", *(("problem", "red") if finding.fatal else ("note", "yellow")))
    if len(notes) > _NOTES:
        say(f"and {len(notes) - _NOTES} more notes", "note", "yellow")
    fatal = sum(finding.fatal for finding in result.findings)
    say("Ready to train." if result.trainable else f"{fatal} problems: mend them before training.")
    if not result.trainable:
        raise typer.Exit(1)


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
