"""``allukan train``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from allukan.cli.assignments import parse_assignments
from allukan.cli.console import TRUST, say, show_log
from allukan.cli.parameters import as_options, takes
from allukan.errors import UserError
from allukan.options import TrainConfig

Option = typer.Option
_SHARING = (
    "Shared activations: layer, input, output, edge or a number  [layer; allukan-paper- output; edgekan-, stackedkan-, ukan edge]"
)
_INPUT_GRAD = "Gradient of the input: exact, or free (Grad-Free Spline)  [exact; allukan-paper- free]"


@takes(TrainConfig, *(name for name in TrainConfig.__annotations__ if name != "options"))
def train(
    config: Annotated[Path | None, Option(help="YAML file of options; those on the command line win.")] = None,
    sharing: Annotated[str | None, Option(help=_SHARING)] = None,
    input_grad: Annotated[str | None, Option(help=_INPUT_GRAD)] = None,
    set_: Annotated[list[str] | None, Option("--set", help="Any option of the YAML file, as options.spline.grid_size=8")] = None,
    resume: Annotated[bool, Option("--resume", help="Continue the run in --out.")] = False,
    trust: Annotated[bool, Option("--trust", help=f"{TRUST} Not needed for one that --model names.")] = False,
    **named: Any,
) -> None:
    """Train a model on a folder of images and masks.

    The run folder receives model/ (the best epoch), config.yaml, splits.json, history.csv, last.ckpt and TensorBoard logs.
    With --folds each fold is such a run below it.
    """
    from allukan import training
    from allukan.data import Splits
    from allukan.models import check_trust, is_foreign
    from allukan.yaml_files import read_yaml

    spline = [f"options.spline.{name}={value}" for name, value in (("sharing", sharing), ("input_grad", input_grad)) if value]
    given = training.merge(as_options(named), parse_assignments([*spline, *(set_ or [])]))
    show_log()
    if resume:
        out = named["out"]
        if out is None:
            raise UserError("no run folder is given: add --out RUN.")
        if "init" in given:
            raise UserError("--init starts a new run: leave it out, or --resume.")
        options = training.resume_config(out, training.merge(read_yaml(config) if config else {}, given))
    else:
        options = training.load_config(config, given)
    check_trust(options.model, f"{out if resume else config} names", trust or "model" in given)
    run = training.train(options, resume)
    open_it = " --trust" if is_foreign(options.model) else ""
    if options.folds is not None and options.fold is None:
        say(f"Trained models: {run / 'fold-0' / 'model'} to {run / f'fold-{options.folds - 1}' / 'model'}")
        say(f"Next: allukan evaluate {run}{open_it}")
        return
    subset = "" if Splits.load(run / "splits.json").test else " --subset val"
    say(f"Trained model: {run / 'model'}")
    say(f"Next: allukan evaluate {run}{subset}{open_it}")
