"""``allukan train``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from allukan.cli.assignments import parse_assignments
from allukan.cli.console import say, show_log
from allukan.errors import UserError

Option = typer.Option
_NO_OPTIONS = ("config", "sharing", "input_grad", "set_", "resume")  # of a training: they say where to find some
_MODELS = (
    "allukan-, allukan-paper-, convtwin- or edgekan-tiny, -small, -base; ukan, ukan-linear, -sakan, -sprecher; "
    "unet, unetpp, attention-unet; plainconv, resenc (nnU-Net); default allukan-base"
)


def train(
    context: typer.Context,
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
    splits: Annotated[str | None, Option(help="Your split: splits.json, splits_final.json, or a CSV of id and split")] = None,
    fold: Annotated[int | None, Option(help="Fold that validates, where the split has folds  [the first]")] = None,
    ignore: Annotated[str | None, Option(help="Value of the label that counts nowhere, or none  [as dataset.json says]")] = None,
    foreground: Annotated[bool | None, Option("--foreground", help="Every label as one class.")] = None,
    init: Annotated[Path | None, Option(help="Start from the weights of RUN/model.", show_default=False)] = None,
    init_heads: Annotated[str | None, Option(help="keep, or new for other classes or channels  [keep]")] = None,
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
    from allukan.data import Splits

    spline = [f"options.spline.{name}={value}" for name, value in (("sharing", sharing), ("input_grad", input_grad)) if value]
    given = training.merge(_given(context.params), parse_assignments([*spline, *(set_ or [])]))
    show_log()
    if resume:
        if out is None:
            raise UserError("no run folder is given: add --out RUN.")
        if "init" in given:
            raise UserError("--init starts a new run: leave it out, or --resume.")
        options = training.resume_config(out, training.merge(training.read_yaml(config) if config else {}, given))
    else:
        options = training.load_config(config, given)
    run = training.train(options, resume)
    subset = "" if Splits.load(run / "splits.json").test else " --subset val"
    say(f"Trained model: {run / 'model'}")
    say(f"Next: allukan evaluate {run}{subset}")


def _given(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """What stands on the command line, as options of a training; folders and files of others are found from anywhere."""
    from allukan.data import DRAWN, parse_ignore

    given = {name: value for name, value in parameters.items() if value is not None and name not in _NO_OPTIONS}
    given |= {"ignore": parse_ignore(given["ignore"])} if "ignore" in given else {}
    given |= {"splits": Path(given["splits"])} if given.get("splits", DRAWN) != DRAWN else {}
    return {name: str(v if name == "out" else v.resolve()) if isinstance(v, Path) else v for name, v in given.items()}
