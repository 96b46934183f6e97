"""``allukan predict``."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from allukan.cli.console import TRUST, complain, counting, say, show_log

if TYPE_CHECKING:
    from allukan.inference import Outcome

Option = typer.Option


def predict(
    model: Annotated[
        Path, typer.Argument(help="Folder of a trained model, RUN or RUN/model; of a training in folds, all.", show_default=False)
    ],
    inputs: Annotated[
        list[Path],
        typer.Argument(
            help="Images, folders of images or of DICOM slices, or a JSON list of images.",
            show_default=False,
        ),
    ],
    out: Annotated[Path, Option(help="Folder for the results; new or empty.", show_default=False)],
    mode: Annotated[str | None, Option(help="resize, or sliding (window over the image as it is)  [volumes: sliding]")] = None,
    tta: Annotated[bool, Option("--tta", help="Average probabilities over all flips (four passes; volumes: eight).")] = False,
    probabilities: Annotated[bool, Option("--probabilities", help="Also write probabilities (.npz).")] = False,
    overlays: Annotated[bool, Option("--overlays/--no-overlays", help="Also draw the contours over pictures.")] = True,
    keep_largest: Annotated[
        str | None, Option(metavar="CLASS,…", help="Only the largest connected component of these classes, by name or value.")
    ] = None,
    min_volume: Annotated[float, Option(metavar="MM3", help="Leave out connected components of volumes below so many mm³.")] = 0,
    format_: Annotated[
        str | None, Option("--format", help="dicom-seg: masks of DICOM images as DICOM SEG  [the kind of the input]")
    ] = None,
    device: Annotated[str, Option(help="auto, cpu, cuda …")] = "auto",
    trust: Annotated[bool, Option("--trust", help=TRUST)] = False,
) -> None:
    """Write the masks of images, in the size of each image. Exit code 2 when some could not be read; the others are done.

    Files are grouped into images as in the training, ID_0000.png and ID_0001.png to one; what lacks a file is refused.
    """
    from allukan import inference

    show_log()
    predictor = inference.open_segmenter(model, lambda folder: inference.Predictor(folder, device, mode, tta, trust))
    found = inference.find_images(inputs, predictor.card)
    names = [name.strip() for name in keep_largest.split(",")] if keep_largest is not None else []
    steps = partial(
        inference.predict_files,
        predictor,
        found,
        out,
        save_probabilities=probabilities,
        save_overlays=overlays,
        mask_format=format_,
        cleaning=inference.Cleaning.of_names(predictor.card, names, min_volume),
        likeness=inference.LikenessCheck.of(predictor, model),
    )
    say(f"Predicting {len(found)} {'images' if len(found) > 1 else 'image'} by {predictor.card.model}.")
    outcome = _shown(steps, len(found))
    say(f"{len(outcome.done)} of {len(found)} images predicted: {out}")
    for _, sentence in outcome.failed:
        complain(f"allukan: {sentence}")
    if outcome.done:
        say(f"Next: look at {out / ('overlays' if overlays and predictor.card.spatial_dims == 2 else 'masks')}")
    if outcome.failed:
        raise typer.Exit(2)


def _shown(steps: Callable[..., Iterator[Outcome]], total: int) -> Outcome:
    """The last of the outcomes; the bar moves with every image, and with every window of a volume."""
    with counting("predicting") as show:
        number = 0

        def within(done: int, windows: int) -> None:
            show(number + done / windows, total)

        for number, outcome in enumerate(steps(progress=within), 1):  # noqa: B007
            show(number, total)
    return outcome
