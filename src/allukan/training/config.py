"""The options of a training from a file and from the command line, as one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from allukan.errors import UserError
from allukan.options import MACHINE_OPTIONS, PROTOCOLS, TrainConfig, check_names
from allukan.yaml_files import read_yaml

__all__ = ["MACHINE_OPTIONS", "PROTOCOLS", "TrainConfig", "load_config", "merge"]


def load_config(path: str | Path | None, given: Mapping[str, Any]) -> TrainConfig:
    """Options of a YAML file, if any, overridden by those ``given``.

    Raises ``UserError`` for a missing or malformed file, an unknown key and a value that is not usable.
    """
    raw = merge(read_yaml(path) if path else {}, given)
    check_names(raw, [f.name for f in fields(TrainConfig)], "option")
    for name in ("data", "out"):
        if not raw.get(name):
            raise UserError("no dataset folder is given." if name == "data" else "no run folder is given: add --out RUN.")
    return TrainConfig(**anchored(raw))


def anchored(raw: Mapping[str, Any]) -> dict[str, Any]:
    """With whole paths for what is there, so that it is found from any other folder: of ``groups`` without its column."""
    found = dict(raw)
    for name in ("data", "splits", "init", "groups"):
        if not (value := raw.get(name)):
            continue
        file, column = (value, "") if not isinstance(value, str) or Path(value).exists() else _before_column(value)
        if isinstance(file, str) and Path(file).exists():
            found[name] = str(Path(file).resolve()) + column
    return found


def _before_column(value: str) -> tuple[str, str]:
    """``FILE.csv:COLUMN`` in two; a pattern ``re:…`` is no file."""
    file, colon, column = value.rpartition(":")
    return (file, colon + column) if file and file != "re" else (value, "")


def merge(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Both mappings as one; where both have a value ``above`` wins, mappings within are merged in turn.

    >>> merge({"a": {"b": 1, "c": 2}}, {"a": {"b": 3}})
    {'a': {'b': 3, 'c': 2}}
    """
    merged = dict(below)
    for key, value in above.items():
        both = isinstance(value, Mapping) and isinstance(merged.get(key), Mapping)
        merged[key] = merge(merged[key], value) if both else value
    return merged
