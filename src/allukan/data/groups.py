"""Which images belong together: one patient, one video sequence."""

from __future__ import annotations

import csv
import re
from pathlib import Path

from allukan.data.dataset import Dataset
from allukan.errors import UserError

_DEFAULTS = ("groups.csv", "sequences.csv")


def load_groups(dataset: Dataset, spec: str | None) -> dict[str, str] | None:
    """Group of every case id.

    ``spec`` is ``"FILE.csv"`` or ``"FILE.csv:COLUMN"``: a column ``id`` and one with the group (the second, unless named), or
    ranges of numbers in the columns ``first_frame`` and ``last_frame``; or ``"re:REGEX"``, whose first parenthesis (or whole
    match) counts.
    With None ``groups.csv`` or ``sequences.csv`` beside the images is taken if there is one. Returns None where nothing is known.
    Raises ``UserError`` for a spec that cannot be read or leaves a case without group.
    """
    if spec is None:
        default = next((dataset.root / name for name in _DEFAULTS if (dataset.root / name).is_file()), None)
        if default is None:
            return None
        spec = str(default)
    groups = _by_pattern(dataset, spec[3:]) if spec.startswith("re:") else _by_table(dataset, spec)
    for name in dataset.ids:
        if name not in groups:
            raise UserError(f"groups {spec!r} say nothing about image {name!r}: every image needs a group.")
    return groups


def _by_pattern(dataset: Dataset, pattern: str) -> dict[str, str]:
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise UserError(f"groups 're:{pattern}' is not a regular expression ({error}).") from None
    found = {name: compiled.search(name) for name in dataset.ids}
    groups = {name: (match.group(1) if compiled.groups else match.group()) for name, match in found.items() if match}
    return {name: group for name, group in groups.items() if group is not None}  # an optional parenthesis may stay empty


def _by_table(dataset: Dataset, spec: str) -> dict[str, str]:
    path, column = Path(spec), ""
    if not path.is_file() and ":" in spec:
        before, _, column = spec.rpartition(":")
        path = Path(before)
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error):
        raise UserError(f"groups {spec!r} cannot be read: give FILE.csv, FILE.csv:COLUMN or re:REGEX.") from None
    names = list(rows[0]) if rows else []
    if {"first_frame", "last_frame"} <= set(names):
        return _by_ranges(dataset, path, rows, column or names[0])
    others = [name for name in names if name != "id"]
    column = column or (others[0] if others else "")
    if "id" not in names or column not in names:
        raise UserError(
            f"{path} has the columns {', '.join(names) or 'none'}: needed are 'id' and {column or 'one with the group'!r}."
        )
    return {row["id"]: row[column] for row in rows if row[column]}


def _by_ranges(dataset: Dataset, path: Path, rows: list[dict[str, str]], column: str) -> dict[str, str]:
    groups: dict[str, str] = {}
    try:
        ranges = [(int(row["first_frame"]), int(row["last_frame"]), row[column]) for row in rows]
    except (ValueError, KeyError, TypeError):
        raise UserError(f"{path} must hold whole numbers in first_frame and last_frame, and a column {column!r}.") from None
    for name in dataset.ids:
        digits = re.findall(r"\d+", name)
        number = int(digits[-1]) if digits else -1
        found = [group for first, last, group in ranges if first <= number <= last]
        groups |= {name: found[0]} if found else {}
    return groups
