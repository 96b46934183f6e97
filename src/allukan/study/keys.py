"""What the keys of a study file may hold: checks that pydantic runs before it looks at the types."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any

from pydantic import BeforeValidator

from allukan.data import alike
from allukan.errors import UserError, shown
from allukan.options import TrainConfig, check_names
from allukan.study.trials import DROP_PATH, SPLINE_LR

_SET_BY_STUDY = ("data", "out", "protocol", "seed", "folds", "devices")
OPTIONS = tuple(f.name for f in fields(TrainConfig) if f.name not in _SET_BY_STUDY)
_OF_IMAGES = ("groups", "splits", "fold", "ignore", "foreground")
_MODEL_OPTIONS = tuple(name for name in OPTIONS if name not in _OF_IMAGES)
_TUNABLE = ("lr", SPLINE_LR, "weight_decay", "batch_size", DROP_PATH)
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+-]*")
Entries = dict[str, dict[str, Any]]


def grid_of(grid: Any) -> dict[str, tuple[Any, ...]]:
    """Different values of each of some options that may be tuned."""
    check_names(grid, _TUNABLE, "option of tune.grid")
    if not grid:
        raise UserError("tune has no grid: add 'grid: {lr: [1.0e-3, 3.0e-3]}', for instance.")
    for name, values in grid.items():
        if not isinstance(values, list | tuple) or not values or any(values.count(value) > 1 for value in values):
            raise UserError(f"tune.grid.{name} must be a list of different values, got {shown(values)}.")
    return {name: tuple(values) for name, values in grid.items()}


def single(value: Any) -> Any:
    """The one value of a list of one."""
    return value[0] if isinstance(value, list) and len(value) == 1 else value


def chooser(on: Any) -> Any:
    """Validation, and nothing else."""
    if on != "validation":
        raise UserError(f"tune.on is {shown(on)}: only validation may choose, the test images must not.")
    return on


def several(key: str) -> BeforeValidator:
    """One value or a list of different ones."""

    def listed(given: Any) -> tuple[Any, ...]:
        values = tuple(given) if isinstance(given, list | tuple) else (given,)
        if not values:
            raise UserError(f"{key} is empty: give at least one.")
        if twice := [value for number, value in enumerate(values) if value in values[:number]]:
            raise UserError(f"{key} holds {shown(twice[0])} twice: leave one of them out.")
        return values

    return BeforeValidator(listed)


def entries_of(section: str, check: Callable[[str, Any], dict[str, Any]]) -> BeforeValidator:
    """Entries whose names can be those of folders; every one is looked at by ``check``."""

    def checked(entries: Any) -> Entries:
        if not isinstance(entries, Mapping):
            raise UserError(f"{section} must be 'name: …' lines, got {shown(entries)}.")
        for name in entries:
            if not _NAME.fullmatch(str(name)):
                raise UserError(
                    f"{section} has an entry {shown(name)}: names become folders, use letters, digits, '.', '-', '_' and '+'."
                )
        for one, other in alike(map(str, entries)):
            raise UserError(f"{section} has {one!r} and {other!r}, which are one folder on Windows and macOS: rename one.")
        return {str(name): check(str(name), given) for name, given in entries.items()}

    return BeforeValidator(checked)


def data_set(*options: str) -> Callable[[str, Any], dict[str, Any]]:
    """A check of one data set: its path, and some of ``options``."""

    def check(name: str, given: Any) -> dict[str, Any]:
        found = {"path": given} if isinstance(given, str) else given
        check_names(found, ["path", *options], f"option of data {name!r}")
        if not isinstance(found.get("path"), str):
            raise UserError(f"data {name!r} has no folder: write '{name}: PATH' or '{name}: {{path: PATH, size: 512}}'.")
        return dict(found)

    return check


def model_of(name: str, given: Any) -> dict[str, Any]:
    """The options of one model."""
    check_names(given, _MODEL_OPTIONS, f"option of models.{name}")
    if "model" not in given:
        raise UserError(f"models.{name} does not say which: add 'model: allukan-tiny', for instance.")
    return dict(given)


def common_of(given: Any) -> dict[str, Any]:
    """The options of all runs."""
    check_names(given, [name for name in OPTIONS if name != "model"], "option of common")
    return dict(given)


def pairs_of(given: Any) -> tuple[tuple[str, str], ...]:
    """Trained on and tested on, by name."""
    pairs = []
    for entry in given if isinstance(given, list | tuple) else [given]:
        if isinstance(entry, tuple):
            pairs.append(entry)
            continue
        check_names(entry, ("train", "test"), "key of cross")
        pairs.append((str(entry.get("train", "")), str(entry.get("test", ""))))
    return tuple(pairs)
