"""A run that is to be continued: its configuration and its checkpoint."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import torch

from allukan.data import Dataset
from allukan.errors import UserError
from allukan.models import load_card, not_finite
from allukan.options import MACHINE_OPTIONS, TrainConfig, check_names
from allukan.training.config import anchored, load_config, merge
from allukan.training.module import SegmentationModule

_PARTS = ("epoch", "state_dict", "loops", "callbacks", "optimizer_states", "lr_schedulers")


def resume_config(run: str | Path, given: Mapping[str, Any]) -> TrainConfig:
    """``RUN/config.yaml``; of the options ``given`` only those of the machine may differ from it, and ``epochs`` may be more.

    Raises ``UserError`` when the run does not exist or when an option would change what is being trained.
    """
    path = Path(run) / "config.yaml"
    if not path.is_file():
        raise UserError(f"{run} is not a run that can be resumed: {path} is missing.")
    try:
        saved = load_config(path, {"out": str(run)})
    except UserError as error:
        sentence = str(error) if str(path) in str(error) else f"{path} is of another version of allukan, or was changed: {error}"
        raise UserError(sentence) from None
    check_names(given, [f.name for f in fields(TrainConfig)], "option")
    wanted = TrainConfig(**merge(asdict(saved), anchored(given)))
    before, after = asdict(saved), asdict(wanted)
    for name, value in after.items():
        longer = name == "epochs" and value is not None and value > (before[name] or 0)
        if name not in MACHINE_OPTIONS and value != before[name] and not longer:
            rule = "a resumed run can only be given more epochs" if name == "epochs" else "a resumed run keeps its options"
            raise UserError(f"option {name} is {before[name]!r} in {path} and {value!r} now: {rule}.")
    return wanted


def check_classes(run: Path, dataset: Dataset) -> None:
    """``UserError`` where the model of a begun run has other classes than the data, by name, value or order."""
    if not (run / "model" / "config.json").is_file():
        return
    card = load_card(run / "model")
    renamed = len(dataset.classes) > 1 and card.classes != dataset.classes  # the one class may have another name
    if renamed or (len(card.classes), card.label_values) != (len(dataset.classes), dataset.label_values):
        ours, theirs = (_shown(one.classes, one.label_values) for one in (card, dataset))
        raise UserError(f"{run} was trained on the classes {ours}, and {dataset.root} has {theirs}: go on with the same data.")


def _shown(classes: Sequence[str], values: Sequence[int]) -> str:
    return ", ".join(f"{name} ({value})" for name, value in zip(classes, values, strict=True)) if values else ", ".join(classes)


def check_checkpoint(path: Path, module: SegmentationModule) -> int:
    """How many epochs ``last.ckpt`` has had.

    Raises ``UserError`` unless it is readable, whole, finite, and of the architecture that ``config.yaml`` names.
    """
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        lacking = [part for part in _PARTS if part not in checkpoint]
    except Exception as error:
        raise UserError(f"{path} is not a readable checkpoint ({type(error).__name__}): start the run anew.") from None
    if lacking or bool(module.config.ema or module.config.snapshots) != ("current_model_state" in checkpoint):
        lacks = ", ".join(lacking) or "the average of the weights"
        raise UserError(f"{path} is the checkpoint of another version of allukan, it lacks {lacks}: start the run anew.")
    _check_tensors(path, checkpoint["state_dict"], module)
    groups = [len(group["params"]) for group in checkpoint["optimizer_states"][0]["param_groups"]]
    if groups != [len(group["params"]) for group in module.parameter_groups()]:
        raise UserError(f"{path} groups its parameters as another version of allukan did: start the run anew.")
    return int(checkpoint["epoch"]) + 1


def _check_tensors(path: Path, state: Mapping[str, torch.Tensor], module: SegmentationModule) -> None:
    have = {name: tuple(tensor.shape) for name, tensor in state.items()}
    want = {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}
    for name in sorted(have.keys() | want.keys()):
        if have.get(name) != want.get(name):
            raise UserError(
                f"{path} is a checkpoint of another architecture than {module.card.model!r}: {name} has shape "
                f"{have.get(name, 'none')} there and {want.get(name, 'none')} here."
            )
    if bad := not_finite(state):
        raise UserError(f"{path} is of no use: {bad} holds values that are not finite; train anew, with a lower --lr.")
