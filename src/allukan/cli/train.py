"""``allukan train``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from allukan.cli.assignments import parse_assignments
from allukan.cli.console import say, show_log
from allukan.errors import UserError

Option = typer.Option
_MODELS = (
    "allukan-, allukan-paper-, convtwin- or edgekan-tiny, -small, -base; ukan, ukan-linear, -sakan, -sprecher; "
    "unet, unetpp, attention-unet; plainconv, resenc (nnU-Net); default allukan-base"
)


def train(
    data: Annotated[Path | None, typer.Argument(help="Dataset folder; not needed with --resume.", show_default=False)] = None,
    out: Annotated[Path | None, Option(help="Run folder to make.", show_default=False)] = None,
    config: Annotated[Path | None, Option(help="YAML file of options; those on the command line win.")] = None,
    model: Annotated[str | None, Option(help=_MODELS)] = None,
    size: Annotated[str | None, Option(help="Pixels, 256 or 192x256 (height x width)  [256]")] = None,
    epochs: Annotated[int | None, Option(help="Passes over the training images  [400]")] = None,
    batch_size: Annotated[int | None, Option(help="Images a step and device  [8]")] = None,
    protocol: Annotated[str | None, Option(help="clean, or ukan (80/20 as in the literature)  [clean]")] = None,
    seed: Annotated[int | None, Option(help="Of split, weights, order and augmentation  [0]")] = None,
    lr: Annotated[float | None, Option(help="Initial learning rate  [clean 3e-3, ukan 1e-4]")] = None,
    weight_decay: Annotated[float | None, Option(help="On the linear weights  [1e-4]")] = None,
    augment: Annotated[str | None, Option(help="affine,elastic,intensity,speckle or some of them, or none")] = None,
    groups: Annotated[str | None, Option(help="Images that belong together: FILE.csv[:COLUMN] or re:REGEX")] = None,
    sharing: Annotated[str | None, Option(help="Shared activations: layer, input, output, edge or a number  [layer]")] = None,
    input_grad: Annotated[str | None, Option(help="exact, or free (Grad-Free Spline)  [exact]")] = None,
    precision: Annotated[str | None, Option(help="auto, 32-true, bf16-mixed, 16-mixed  [auto]")] = None,
    accelerator: Annotated[str | None, Option(help="auto, cpu, cuda …  [auto]")] = None,
    devices: Annotated[str | None, Option(help="How many, or auto  [auto]")] = None,
    compile: Annotated[bool | None, Option("--compile/--no-compile", help="torch.compile the network  [no]")] = None,
    set_: Annotated[list[str] | None, Option("--set", help="Any option of the YAML file, as options.spline.grid_size=8")] = None,
    resume: Annotated[bool, Option("--resume", help="Continue the run in --out.")] = False,
) -> None:
    """Train a model on a folder of images and masks.

    The run folder receives model/ (the best epoch), config.yaml, splits.json, history.csv, last.ckpt and TensorBoard logs.
    """
    from allukan import training

    given: dict[str, Any] = {
        "data": str(data.resolve()) if data else None,
        "out": str(out) if out else None,
        "model": model,
        "size": size,
        "epochs": epochs,
        "batch_size": batch_size,
        "protocol": protocol,
        "seed": seed,
        "lr": lr,
        "weight_decay": weight_decay,
        "augment": augment,
        "groups": groups,
        "precision": precision,
        "accelerator": accelerator,
        "devices": devices,
        "compile": compile,
    }
    spline = [f"options.spline.{name}={value}" for name, value in (("sharing", sharing), ("input_grad", input_grad)) if value]
    given = {name: value for name, value in given.items() if value is not None}
    given = training.merge(given, parse_assignments([*spline, *(set_ or [])]))
    show_log()
    if resume:
        if out is None:
            raise UserError("no run folder is given: add --out RUN.")
        options = training.resume_config(out, given)
    else:
        options = training.load_config(config, given)
    run = training.train(options, resume)
    say(f"Trained model: {run / 'model'}")
    say(f"Next: allukan evaluate {run}")
