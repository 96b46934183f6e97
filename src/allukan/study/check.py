"""What would go wrong in a study, told before it starts."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from allukan.data import DRAWN, Dataset, given_parts, load_groups, open_dataset
from allukan.errors import UserError
from allukan.models import ModelCard
from allukan.study.cells import Cell
from allukan.study.plan import Study
from allukan.study.tuning import chosen
from allukan.training import TrainConfig


def check_study(study: Study, out: Path) -> None:
    """Raises ``UserError`` for missing data, groups or models, options that do not fit, and folders of another study."""
    opened = {name: _open(given) for name, given in {**study.data, **study.test_data}.items()}
    for train, test in study.cross:
        a, b = opened[train], opened[test]
        if (len(a.classes), a.target) != (len(b.classes), b.target):
            raise UserError(f"cross {train} → {test}: {a.root} and {b.root} differ in their classes, nothing can be tested.")
    cells, built = study.cells(out), set()
    for cell in cells:
        first = study.tune.points(cell.options["model"])[0] if study.tune and cell.tuned else {}
        config = cell.config(first)
        dataset = opened[cell.data]
        _check_split(cell, config, dataset)
        network = (config.model, repr(config.options), dataset.classes, dataset.target)
        if network not in built:
            built.add(network)
            card = ModelCard(
                config.model, 3, dataset.classes, dataset.target, config.size, (0.0,), (1.0,), options=config.options
            )
            with torch.device("meta"):
                card.build()
        options = chosen(cells, cell.data, cell.model) if cell.tuned else {}
        if options is not None:
            cell.check_started(cell.config(options))


def _check_split(cell: Cell, config: TrainConfig, dataset: Dataset) -> None:
    """``UserError`` for a split that cannot be used, or has no images for the test of a cell."""
    if config.protocol != "clean":
        return
    parts, origin, _ = given_parts(dataset, config.splits, config.fold)
    if parts and "test" not in parts and cell.point is None:
        raise UserError(
            f"data {cell.data!r} has no test images in its split ({origin}), and a study compares on those: give them, or say "
            f"splits: {DRAWN} for a split that is drawn."
        )


def _open(given: Mapping[str, Any]) -> Dataset:
    dataset = open_dataset(given["path"])
    load_groups(dataset, given.get("groups"))
    return dataset
