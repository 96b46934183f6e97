"""A trainer for nnU-Net v2 that gives splines a learning rate of their own, in a folder that ``nnUNet_extTrainer`` names."""

from __future__ import annotations

from math import inf
from pathlib import Path
from typing import Any

from torch import nn
from torch.optim import Optimizer

from allukan.errors import UserError
from allukan.files import write_text
from allukan.nn import KALayer

TRAINER = "nnUNetTrainerAllUKAN"
_FILE = '''"""nnU-Net's trainer with a learning rate of their own for splines."""

# export nnUNet_extTrainer={folder}

import torch
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

from allukan.integrations.nnunet_trainer import SplineRates


class {name}(SplineRates, nnUNetTrainer):
    """For nnUNetv2_train -tr {name}."""

    spline_lr_share = {share!r}  # learning rate of splines by that of all other weights

    def __init__(self, plans: dict, configuration: str, fold: int, dataset_json: dict, device=torch.device("cuda")):
        super().__init__(plans, configuration, fold, dataset_json, device)
        self.num_epochs = {epochs}
        self.num_iterations_per_epoch = {iterations}
        self.num_val_iterations_per_epoch = {validations}
'''


class SplineRates:
    """Stands before a trainer of nnU-Net in the list of bases: same optimiser and schedule, other rates for splines.

    Attributes:
        spline_lr_share: learning rate of splines, as a multiple of that of all other weights.
    """

    spline_lr_share: float = 1.0
    network: nn.Module

    def configure_optimizers(self) -> tuple[Optimizer, SplineSchedule]:
        """Those of the trainer, with splines in a group of their own."""
        optimizer, schedule = super().configure_optimizers()  # type: ignore[misc]
        splines = [p for layer in self.network.modules() if isinstance(layer, KALayer) for p in layer.spline_parameters()]
        theirs = {id(parameter) for parameter in splines}
        for group in optimizer.param_groups:
            group["params"] = [parameter for parameter in group["params"] if id(parameter) not in theirs]
        optimizer.add_param_group({"params": splines, "share": self.spline_lr_share})
        return optimizer, SplineSchedule(schedule, optimizer)


class SplineSchedule:
    """A schedule of nnU-Net, which has one rate for all groups, times the ``share`` of each group of the optimiser."""

    def __init__(self, schedule: Any, optimizer: Optimizer) -> None:
        self.schedule, self.optimizer = schedule, optimizer

    def step(self, epoch: int | None = None) -> None:
        """The rates of an epoch."""
        self.schedule.step(epoch)
        for group in self.optimizer.param_groups:
            group["lr"] *= group.get("share", 1.0)


def write_trainer(folder: Path, share: float, epochs: int = 1000, iterations: int = 250) -> Path:
    """Write the trainer ``nnUNetTrainerAllUKAN`` into the folder, made where it is missing; returns the file.

    ``share`` is the learning rate of splines by that of all other weights, ``iterations`` those of an epoch, a fifth of which
    nnU-Net validates. Raises ``UserError`` for numbers that are not usable and where the file exists.
    """
    if not 0 < share < inf or min(epochs, iterations) < 1:
        raise UserError(f"share {share:g}, epochs {epochs} and iterations {iterations} must be above 0, and finite.")
    path = folder / "allukan_trainer.py"
    if path.exists():
        raise UserError(f"{path} exists: change it, or choose another folder, nothing is overwritten.")
    folder.mkdir(parents=True, exist_ok=True)
    numbers = {"share": share, "epochs": epochs, "iterations": iterations, "validations": max(1, iterations // 5)}
    write_text(path, _FILE.format(folder=folder.absolute(), name=TRAINER, **numbers))
    return path
