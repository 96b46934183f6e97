"""``allukan evaluate``."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from allukan.cli.console import TRUST, counting, say, show_log, show_summary
from allukan.errors import UserError

Option = typer.Option


def evaluate(
    run: Annotated[Path, typer.Argument(help="Run folder of allukan train; of one in folds, all of them.", show_default=False)],
    data: Annotated[
        Path | None, Option(help="Another dataset with these classes; by folds: their mean  [of the training]")
    ] = None,
    subset: Annotated[str | None, Option(help="test, val, train or all  [test; all with --data]")] = None,
    out: Annotated[Path | None, Option(help="Folder of cases.csv and summary.json  [RUN/evaluation, -DATA, -SUBSET]")] = None,
    map_: Annotated[list[str] | None, Option("--map", help="Class of --data = class of the model, or none: cyst=tumour")] = None,
    groups: Annotated[str | None, Option(help="Of --data: FILE.csv[:COLUMN] or re:REGEX")] = None,
    spacing_mm: Annotated[str | None, Option(help="Pixel height,width in mm: distances in mm instead of pixels")] = None,
    mode: Annotated[str | None, Option(help="resize, or sliding (window over the image as it is)  [volumes: sliding]")] = None,
    tta: Annotated[bool, Option("--tta", help="Average probabilities over all flips (four passes; volumes: eight).")] = False,
    device: Annotated[str, Option(help="auto, cpu, cuda …")] = "auto",
    trust: Annotated[bool, Option("--trust", help=TRUST)] = False,
) -> None:
    """Score a trained model case by case: IoU, Dice, HD95, surface Dice, with 95 % intervals."""
    from allukan import inference

    if groups is not None and data is None:
        raise UserError("--groups belongs to --data: the groups of the training are known.")
    show_log()
    spacing = _spacing(spacing_mm)
    folds = inference.open_folds(run)
    if folds and data is None and (given := _given(subset=subset, out=out, map=map_)):
        raise UserError(f"{run} has {len(folds)} folds, scored on their test images: give --{given} with one, as {run}/fold-0.")
    if folds and subset is not None:
        raise UserError(f"{run} has {len(folds)} folds, which are scored on all images of --data: leave --subset out.")
    opened = inference.joined(run, folds) if folds else inference.open_run(run)
    say(f"Scoring {run}: every image through the model, then its distances to the truth.")
    with counting("evaluating") as show:

        def predictor(model: Path) -> inference.Predictor:
            return inference.Predictor(model, device, mode, tta, trust)

        if folds and data is None:
            summary = inference.evaluate_folds(run, folds, predictor, spacing, show)
        else:
            summary = inference.evaluate(
                opened,
                data,
                subset,
                predictor=inference.open_segmenter(run, predictor),
                out=out,
                mapping=_mapping(map_ or []),
                groups=groups,
                spacing_mm=spacing,
                progress=show,
            )
    show_summary(summary)
    for note in summary["notes"]:
        say(f"Note: {note}")
    say(f"Written: {Path(summary['folder']) / 'cases.csv'} and summary.json")
    of = [] if Path(summary["folder"]) == run / "evaluation" else ["--evaluation", summary["folder"]]
    say(f"Next: {shlex.join(['allukan', 'report', str(run), *of, *['--trust'] * trust])}")


def _given(**options: object) -> str:
    """The first that is not None."""
    return next((name for name, value in options.items() if value is not None), "")


def _mapping(texts: list[str]) -> dict[str, str]:
    pairs = [text.rpartition("=") for text in texts]
    for text, (theirs, _, ours) in zip(texts, pairs, strict=True):
        if not (theirs and ours):
            raise UserError(f"--map {text!r} is not usable: write CLASS_OF_THE_DATA=CLASS_OF_THE_MODEL, or CLASS=none.")
        if (theirs, ours) not in [(a, b) for a, _, b in pairs if a == theirs][:1]:
            raise UserError(f"--map {text!r}: {theirs!r} is mapped twice, keep one of the two.")
    return {theirs: ours for theirs, _, ours in pairs}


def _spacing(text: str | None) -> tuple[float, float] | None:
    if text is None:
        return None
    try:
        height, width = (float(part) for part in text.split(","))
    except ValueError:
        height = width = 0.0
    if not (0 < height < float("inf") and 0 < width < float("inf")):
        raise UserError(f"spacing_mm {text!r} is not usable: give height,width of a pixel in mm, as 0.1,0.1.")
    return height, width
