"""``allukan nnunet``."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from allukan.cli.console import say
from allukan.errors import UserError

app = typer.Typer(no_args_is_help=True)
Option = typer.Option


@app.command()
def plans(
    dataset: Annotated[str, typer.Argument(help="Number or name of a dataset that nnU-Net has planned.", show_default=False)],
    source: Annotated[str, Option("--from", help="Plans to take stages, widths and strides from.")] = "nnUNetPlans",
    network: Annotated[str, Option(help="allukan, or convert: the planned U-Net with KA layers.")] = "allukan",
    configuration: Annotated[
        list[str] | None, Option("--configuration", "-c", help="One of the plans', again for more  [all but cascades]")
    ] = None,
    name: Annotated[
        str | None, Option(help="Of the new plans  [nnUNetAllUKANPlans; nnUNetConvertedPlans for convert]", show_default=False)
    ] = None,
) -> None:
    """Write plans of nnU-Net v2 with our network, beside those that are there; the preprocessed data are used as they are."""
    from allukan.integrations.nnunet import find_dataset, write_plans

    folder = find_dataset(_preprocessed(), dataset)
    written = write_plans(folder, source, network, name, configuration or ())
    say(f"Written: {written.path}")
    for left, why in written.left_out.items():
        say(f"Note: {left} is left out, it is {why}")
    for each in written.configurations:
        say(f"Train: nnUNetv2_train {dataset} {each} 0 -p {written.path.stem}")


@app.command()
def weights(
    checkpoint: Annotated[Path, typer.Argument(help="checkpoint_final.pth of a training of nnU-Net.", show_default=False)],
    out: Annotated[Path, typer.Argument(help="File to write.", show_default=False)],
) -> None:
    """Turn a trained network of nnU-Net into starting weights of the same one with KA layers, the same function."""
    from allukan.integrations.nnunet_weights import convert_checkpoint

    network = convert_checkpoint(checkpoint, out)
    say(f"Written: {out}, {len(network.conversion.layers)} KA layers")
    say(f"Train: nnUNetv2_train DATASET CONFIGURATION FOLD -p nnUNetConvertedPlans -pretrained_weights {out}")


@app.command()
def trainer(
    folder: Annotated[Path, typer.Argument(help="Folder to write the trainer into.", show_default=False)],
    spline_lr_share: Annotated[float, Option(help="Learning rate of splines by that of all other weights.")] = 3.0,
    epochs: Annotated[int, Option(help="Epochs.")] = 1000,
    iterations: Annotated[int, Option(help="Iterations an epoch.")] = 250,
) -> None:
    """Write a trainer for nnU-Net 2.8 and later that sets the learning rate of splines and the length of the training."""
    from allukan.integrations.nnunet_trainer import TRAINER, write_trainer

    path = write_trainer(folder, spline_lr_share, epochs, iterations)
    say(f"Written: {path}")
    say(f"Train: nnUNet_extTrainer={path.parent} nnUNetv2_train DATASET CONFIGURATION FOLD -p nnUNetAllUKANPlans -tr {TRAINER}")


def _preprocessed() -> Path:
    folder = os.environ.get("nnUNet_preprocessed", "")  # nnU-Net spells it so  # noqa: SIM112
    if not folder:
        raise UserError("nnUNet_preprocessed is not set: set it as for nnU-Net, to the folder of its preprocessed data.")
    return Path(folder)
