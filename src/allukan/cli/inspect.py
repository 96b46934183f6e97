"""``allukan inspect``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from allukan.cli.assignments import parse_assignments
from allukan.cli.console import TRUST, check_page, counting, say, show_wide
from allukan.errors import UserError
from allukan.files import read_json, write_json

if TYPE_CHECKING:
    from rich.table import Table

    from allukan.costs import Inspection
    from allukan.costs.inspection import Layer
    from allukan.inference import Activations, Measured
    from allukan.models import ModelCard

Option = typer.Option
_CAPTION = "MFLOP of one image: linear (2 a multiply-add), spline and other forward, all of these backward. A: activations."


def inspect(
    model: Annotated[
        str,
        typer.Argument(
            help="A model by name, package.module:function, or folder RUN/model of a trained one.", show_default=False
        ),
    ],
    size: Annotated[str | None, Option(help="Pixels, 256, 192x256 or 32x256x256  [256; of the trained model]")] = None,
    channels: Annotated[int | None, Option(help="Channels of the image  [3; of the trained model]")] = None,
    classes: Annotated[int | None, Option(help="Logits  [1; of the trained model]")] = None,
    dims: Annotated[int | None, Option(help="2 or 3 spatial dimensions  [2; of the trained model]")] = None,
    set_: Annotated[list[str] | None, Option("--set", help="Any option of the model, as spline.grid_size=8")] = None,
    layers: Annotated[bool, Option("--layers/--stages", help="A line for each layer, or for each stage.")] = False,
    activations: Annotated[bool, Option("--activations", help="Of a trained model: how far its activations bend.")] = False,
    atlas: Annotated[bool, Option("--atlas", help="Of a trained model: a page with every activation over its inputs.")] = False,
    out: Annotated[Path | None, Option(help="The HTML file of --atlas  [atlas.html]", show_default=False)] = None,
    trust: Annotated[bool, Option("--trust", help=TRUST)] = False,
    json: Annotated[Path | None, Option("--json", help="Also write everything to this file.", show_default=False)] = None,
) -> None:
    """Say what a model computes, holds and keeps: parameters, FLOPs with splines, saved bytes, by stage or layer.

    For one image in training mode. It runs on shapes alone, so that any size takes a few seconds and no memory.

    --activations says of every layer how far its activations are from a·b + c (bend), which of its inputs lie outside the grid,
    how many grid intervals none falls into, and what the score loses without the bend (KA share). It takes the validation images
    of the run, as many times as there are layers; without them what model/ keeps of the training.

    --atlas measures the same and draws it: each activation over the inputs that it meets, in one HTML file. With the data it also
    writes RUN/model/likeness.safetensors, by which an image is said to be unlike those of the training.
    """
    from allukan.models import load_card

    if json:
        _check_json(json)
    given = {"channels": channels, "classes": classes, "dims": dims, "set": set_}
    folder = model if Path(model).is_dir() else None
    if folder is not None:
        if wrong := [f"--{name}" for name, value in given.items() if value is not None]:
            raise UserError(f"{model} is a trained model, which brings its own {', '.join(wrong)}: leave that out.")
        card = load_card(folder)
    else:
        card = _card(model, channels, classes, dims, parse_assignments(set_ or []))
    if out and not atlas:
        raise UserError("--out is the page of --atlas: add --atlas, or say --json for figures.")
    if activations or atlas:
        if folder is None or size or layers:
            asked = "--activations" if activations else "--atlas"
            raise UserError(f"{asked} is of a trained model, RUN/model, layer by layer: leave --size and --layers out.")
        page = (out or Path("atlas.html")) if atlas else None
        return _show_activations(folder, activations, page, json, trust)
    shape = _pixels(size, card.spatial_dims) if size else (card.size * 2)[: card.spatial_dims]
    found = _inspect(card, shape, folder, trust)
    if json:
        write_json(json, found.as_dict(), indent=2)
    title = f"{card.model}, {' × '.join(map(str, found.input))}"
    show_wide(_table(title, found.layers if layers else found.stages(), found.total()))


def _check_json(out: Path) -> None:
    """Refuses a file that was not written here, as the config.json of a model."""
    if not out.is_file():
        return
    found = read_json(out)
    if not isinstance(found, dict) or "layers" not in found:
        raise UserError(f"{out} exists and is something else: remove it, or give --json another name.")


def _show_activations(folder: str, table: bool, page: Path | None, json: Path | None, trust: bool) -> None:
    from allukan.inference import measure_activations

    if page:
        check_page(page, "atlas.html")
    say(f"Measuring the activations of {folder}: the validation images once a layer, where they are there.")
    with counting("measuring") as show:
        measured = measure_activations(folder, progress=show, trust=trust)
    if json:
        write_json(json, measured.found.as_dict(), indent=2)
    if table:
        show_wide(_activations_table(measured.found))
    say(f"Measured {measured.found.note}")
    if page:
        _draw(measured, folder, page)


def _draw(measured: Measured, folder: str, page: Path) -> None:
    from allukan.inference import draw_atlas, keep_likeness

    say(f"Atlas: {draw_atlas(measured, folder, page)}")
    say("Next: open it in a browser; it needs no network.")
    try:
        likeness = keep_likeness(measured, folder)
    except OSError as error:
        say(f"note: no likeness of images was kept, {folder} cannot be written ({error.strerror or error}).")
    else:
        if measured.images is not None and likeness is None:
            say(f"Likeness: not kept, {len(measured.images)} validation images are too few to tell others from them.")
        elif likeness:
            images, limit = len(likeness.distances), likeness.threshold()
            say(f"Likeness: {folder}/likeness.safetensors, of {images} images; unlike them is a score above {limit:.1f}")


def _card(model: str, channels: int | None, classes: int | None, dims: int | None, options: dict[str, Any]) -> ModelCard:
    from allukan.models import ModelCard
    from allukan.options import LARGEST_COUNT

    channels, classes, dims = (default if n is None else n for n, default in ((channels, 3), (classes, 1), (dims, 2)))
    limits = {"channels": (channels, 1, LARGEST_COUNT), "classes": (classes, 1, LARGEST_COUNT), "dims": (dims, 2, 3)}
    for name, (value, least, most) in limits.items():
        if not least <= value <= most:
            raise UserError(f"--{name} {value} is not usable: give a whole number from {least} to {most}.")
    names, target = tuple(map(str, range(classes))), "multilabel"
    return ModelCard(model, channels, names, target, (256, 256), mean=(), std=(), spatial_dims=dims, options=options)


def _inspect(card: ModelCard, size: tuple[int, ...], folder: str | None, trust: bool) -> Inspection:
    from allukan.costs import inspect_model
    from allukan.models import outline_saved

    model = card.outline() if folder is None else outline_saved(folder, card, trust)
    try:
        return inspect_model(model, (1, card.in_channels, *size))
    except (ValueError, RuntimeError) as error:
        reason = str(error).splitlines()[0].rstrip(".")
        what = f"{card.model} cannot be trained on one image of {'x'.join(map(str, size))} pixels"
        raise UserError(f"{what}: {reason}. Give another --size.") from None


def _pixels(text: str, dims: int) -> tuple[int, ...]:
    """``256``, or as many numbers with an x between as there are dimensions."""
    parts = text.lower().split("x")
    if len(parts) not in (1, dims) or not all(part.isdecimal() and len(part) < 6 and int(part) > 0 for part in parts):
        example = "x".join(["64", "256", "192"][-dims:])
        raise UserError(f"--size {text!r} is not usable: give pixels such as 256, or {example} for {dims} dimensions.")
    return tuple(int(part) for part in (parts * dims if len(parts) == 1 else parts))


def _activations_table(found: Activations) -> Table:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(title=f"{found.model}, activations", title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for column in ("layer", "kind", "sharing"):
        table.add_column(column)
    for column in ("A", "bend", "outside the grid", "dead intervals", "KA share (Dice)"):
        table.add_column(column, justify="right")
    for row in found.layers:
        met = (f"{100 * row.outside:.2f} %", f"{row.dead} of {row.intervals}")
        table.add_row(row.name, row.kind, row.sharing, f"{row.activations:,}", f"{row.bend:.4f}", *met, _points(row.ka_share))
    table.add_section()
    table.add_row("all: median bend, joint share", "", "", "", f"{found.bend:.4f}", "", "", _points(found.ka_share))
    return table


def _points(share: float | None) -> str:
    return "" if share is None else f"{share:+.2f}"


def _table(title: str, rows: Sequence[Layer], total: Layer) -> Table:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(
        title=title, title_justify="left", caption=_CAPTION, caption_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0)
    )
    for column in ("layer", "kind", "sharing", "A", "output"):
        table.add_column(column)
    for column in ("parameters", "linear", "spline", "other", "backward", "saved MB"):
        table.add_column(column, justify="right")
    for row in rows:
        table.add_row(*_cells(row))
    table.add_section()
    table.add_row(*_cells(total))
    return table


def _cells(row: Layer) -> list[str]:
    forward = row.cost.forward
    flops = [forward.linear, forward.spline, forward.other, row.cost.backward.total]
    figures = [f"{row.parameters:,}", *(f"{n / 1e6:,.2f}" for n in flops), f"{row.saved_bytes / 1e6:,.2f}"]
    shape = "×".join(map(str, row.output[1:]))
    return [row.name, row.kind, row.sharing, f"{row.activations:,}" if row.activations else "", shape, *figures]
