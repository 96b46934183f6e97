"""``allukan export``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from allukan.cli.console import TRUST, say, show_log
from allukan.errors import UserError, suggestion

if TYPE_CHECKING:
    from allukan.integrations.source import Source

Option = typer.Option
_OF_ONNX = ("normalise", "half", "opset")


def export(
    model: Annotated[Path, typer.Argument(help="Run folder, or folder of a trained model, RUN/model.", show_default=False)],
    out: Annotated[Path, Option(help="File, or folder (hub, monai-bundle), to write.", show_default=False)],
    format_: Annotated[str, Option("--format", help="onnx, torch-export, aotinductor, hub or monai-bundle", show_default=False)],
    normalise: Annotated[bool | None, Option("--normalise", help="onnx: bytes go in, normalised inside.")] = None,
    half: Annotated[bool | None, Option("--half", help="onnx: weights in float16.")] = None,
    opset: Annotated[int | None, Option(help="onnx: version of the operators  [18]")] = None,
    trust: Annotated[bool, Option("--trust", help=TRUST)] = False,
) -> None:
    """Write a trained model for other tools: ONNX, torch.export, AOTInductor, a Hub folder, a MONAI bundle.

    What is written is tried on images of the run's dataset, or on phantoms, before it gets its name.
    """
    from allukan.integrations.source import open_source

    if format_ not in _WRITERS:
        raise UserError(f"unknown format {format_!r}: {suggestion(format_, _WRITERS)}")
    given = {name: value for name, value in zip(_OF_ONNX, (normalise, half, opset), strict=True) if value is not None}
    if given and format_ != "onnx":
        raise UserError(f"--{next(iter(given))} belongs to --format onnx.")
    show_log()
    _WRITERS[format_](open_source(model, trust), out, given)


def _onnx(source: Source, out: Path, given: dict[str, Any]) -> None:
    from allukan.integrations.onnx import export_onnx

    report = export_onnx(source, out, **given)
    say(f"Written: {out}, {report.nodes} nodes, {report.layers} KA layers")
    if report.kept:
        say(f"Note: {len(report.kept)} KA layers have no table and are computed slowly: {', '.join(report.kept)}")
    say(f"Logits differ from torch's by at most {report.difference:.1e} on {report.tried_on}.")


def _hub(source: Source, out: Path, given: dict[str, Any]) -> None:
    from allukan.integrations.hub import export_hub

    export_hub(source, out)
    say(f"Written: {out}, a model folder with README.md")
    say("Upload it: hf upload USER/NAME FOLDER")


def _bundle(source: Source, out: Path, given: dict[str, Any]) -> None:
    from allukan.integrations.bundle import export_bundle

    export_bundle(source, out)
    say(f"Written: {out}, a MONAI bundle; how to run it: {out / 'docs' / 'README.md'}")


def _program(source: Source, out: Path, given: dict[str, Any]) -> None:
    from allukan.integrations.torch_export import export_program

    _told(out, export_program(source, out))


def _package(source: Source, out: Path, given: dict[str, Any]) -> None:
    from allukan.integrations.torch_export import export_aotinductor

    _told(out, export_aotinductor(source, out))


def _told(out: Path, difference: float) -> None:
    say(f"Written: {out}")
    say(f"Loaded again, its logits differ from the model's by at most {difference:.1e}.")


_WRITERS = {"onnx": _onnx, "torch-export": _program, "aotinductor": _package, "hub": _hub, "monai-bundle": _bundle}
