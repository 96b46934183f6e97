"""``allukan``: the commands, and how their errors are told."""

from __future__ import annotations

from functools import partial
from importlib import import_module
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

from allukan._version import __version__
from allukan.cli.console import run

COMMANDS = {  # each a module here, with a function or an app; loaded when it is asked for
    "train": "Train a model on a folder of images and masks.",
    "evaluate": "Score a trained model case by case: IoU, Dice, HD95, surface Dice, with 95 % intervals.",
    "predict": "Write the masks of images, in the size of each image.",
    "export": "Write a trained model for other tools: ONNX, torch.export, AOTInductor, a Hub folder, a MONAI bundle.",
    "nnunet": "Put our networks into nnU-Net v2: plans, starting weights and a trainer for its own commands.",
    "study": "Train and evaluate models × data sets × protocols × seeds.",
    "compare": "Compare models on the same test images: paired differences, intervals over trainings and images.",
    "report": "Write one self-contained HTML page: scores, every case, pictures of failures, calibration, sizes, training.",
    "app": "Open a page in the browser that applies trained models to an image, a volume or a zip of DICOM slices.",
    "inspect": "Say what a model computes, holds and keeps: parameters, FLOPs with splines, saved bytes, by stage or layer.",
    "demo": "Make phantoms, train ALL U-KAN and its convolutional twin, evaluate both, write report.html (about two minutes).",
    "doctor": "Say what is installed, what computes here and how fast it can, and test that it computes right.",
    "data": "Look at datasets, or make one of synthetic ultrasound.",
}
_STYLE: dict[str, Any] = {
    "add_completion": False,
    "pretty_exceptions_enable": False,
    "rich_markup_mode": "markdown",  # the other one takes the [defaults] in the help for markup and leaves them out
}


class Commands(TyperGroup):
    """The commands by name; for the list of them no module is imported, so that it is instant."""

    def __init__(self, **given: Any) -> None:
        super().__init__(**given)
        self.commands = {name: TyperCommand(name, help=line) for name, line in COMMANDS.items()}

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """The command that is called."""
        name, command, rest = super().resolve_command(ctx, args)
        return name, command and load(str(command.name)), rest


def load(name: str) -> Any:
    """A command with its parameters, as typer makes it of what the module of that name holds."""
    module, holder = import_module(f"allukan.cli.{name}"), typer.Typer(**_STYLE)
    if isinstance(getattr(module, "app", None), typer.Typer):  # and no command of that name
        holder.add_typer(module.app, name=name, help=COMMANDS[name])
    else:
        holder.command(name)(getattr(module, name))
    return typer.main.get_group(holder).commands[name]


app = typer.Typer(
    name="allukan",
    cls=Commands,
    help="Fully Kolmogorov-Arnold deep models for medical image segmentation.",
    no_args_is_help=True,
    **_STYLE,
)


@app.callback(invoke_without_command=True)
def options(version: bool = typer.Option(False, "--version", help="Print the version and exit.")) -> None:
    """Fully Kolmogorov-Arnold deep models for medical image segmentation."""
    if version:
        print(f"allukan {__version__}")
        raise typer.Exit


def main() -> None:
    """Entry point."""
    run(partial(app, prog_name="allukan", standalone_mode=False), "allukan")
