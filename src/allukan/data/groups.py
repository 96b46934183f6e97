"""Which images belong together: one patient, one video sequence."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from allukan.data.dataset import Dataset
from allukan.errors import UserError
from allukan.files import nfc, read_table

_DEFAULTS = ("groups.csv", "sequences.csv")
_NUMBERED = r"(?i)^(.+?)[_-](?:slice|frame|image|img|z|s)?[_-]?\d+$"  # P1_slice_003
_FEWEST = 5  # beginnings of names that may be those of patients; fewer are kinds or parts, as train_1 and testA_1 of GlaS


def load_groups(dataset: Dataset, spec: str | None) -> dict[str, str] | None:
    """Group of every case id.

    ``spec`` is ``"FILE.csv"`` or ``"FILE.csv:COLUMN"`` (commas, semicolons or tabs): a column ``id``, with or without the
    suffixes of the files, and one with the group (the second, unless named), or ranges of numbers in the columns
    ``first_frame`` and ``last_frame``; or ``"re:REGEX"``, whose first parenthesis (or whole match) counts.
    With None ``groups.csv`` or ``sequences.csv`` beside the images is taken if there is one, else what their folders say. Returns
    None where nothing is known.
    Raises ``UserError`` for a spec that cannot be read, leaves a case without group or gives it two.
    """
    if spec is None:
        default = next((dataset.root / name for name in _DEFAULTS if (dataset.root / name).is_file()), None)
        if default is None:
            return dict(dataset.groups) or None
        spec = str(default)
    groups = _by_pattern(dataset, spec[3:]) if spec.startswith("re:") else _by_table(dataset, spec)
    for name in dataset.ids:
        if name not in groups:
            raise UserError(f"groups {spec!r} say nothing about image {name!r}: every image needs a group.")
    return groups


def likely_groups(*parts: Sequence[str]) -> str:
    """A hint where the names in the parts of a split look like those of slices of patients, and some are in two; else empty.

    >>> likely_groups(*([f"P{patient}_slice{n}" for patient in range(6)] for n in range(3)))[:87]
    "18 names begin in 6 ways, as 'P0_slice0', and 6 of these are in more than one part: if "
    >>> likely_groups([f"ISIC_{n}" for n in range(100)], ["ISIC_100"])
    ''
    """
    found = [[re.search(_NUMBERED, name) for name in part] for part in parts]
    places = Counter(start for part in found for start in {match[1] for match in part if match})
    count, spread = sum(map(len, parts)), sum(times > 1 for times in places.values())
    if not (spread and all(map(all, found)) and _FEWEST <= len(places) <= count / 2):
        return ""
    return (
        f"{count} names begin in {len(places)} ways, as {parts[0][0]!r}, and {spread} of these are in more than one part: if "
        f"they are patients or sequences, scores will be too good; say --groups 're:{_NUMBERED}'."
    )


def _by_pattern(dataset: Dataset, pattern: str) -> dict[str, str]:
    try:
        compiled = re.compile(nfc(pattern))
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
        rows = read_table(path)
    except OSError:
        raise UserError(f"groups {spec!r} cannot be read: give FILE.csv, FILE.csv:COLUMN or re:REGEX.") from None
    names = list(rows[0]) if rows else []
    first, last, ids = (_named(names, wanted) for wanted in ("first_frame", "last_frame", "id"))
    if first and last:
        ids = ""
    others = [name for name in names if name not in (ids, first, last)]
    column = column or (others[0] if others else "")
    chosen = _named(names, column)
    if first and last:
        return _by_ranges(dataset, path, rows, (first, last, chosen))
    if not ids or not chosen:
        raise UserError(
            f"{path} has the columns {', '.join(names) or 'none'}: needed are 'id' and {column or 'one with the group'!r}."
        )
    return _by_id(dataset, path, [(row[ids], row[chosen].strip()) for row in rows])


def _named(names: list[str], wanted: str) -> str:
    """The column of this name, else the one that differs in case and spaces only; empty where there is none."""

    def plain(name: str) -> str:
        return re.sub(r"[\s_-]+", "_", nfc(name).strip()).casefold()

    return next((name for name in names if name == wanted), next((n for n in names if plain(n) == plain(wanted)), ""))


def _by_id(dataset: Dataset, path: Path, rows: list[tuple[str, str]]) -> dict[str, str]:
    given: dict[str, str] = {}
    for name, group in rows:
        if group and (other := given.setdefault(name.strip(), group)) != group:
            raise UserError(f"{path} puts {name.strip()!r} into {other!r} and into {group!r}: leave one of them out.")
    groups: dict[str, str] = {}
    for case in dataset.cases:
        spellings = (case.id.strip(), *(nfc(file.name) for file in case.images))
        found = {given[name] for name in spellings if name in given}
        if not found:
            _refuse_spoilt(case.id, path, given)
        if len(found) > 1:
            raise UserError(f"{path} puts {case.id!r} into {' and into '.join(sorted(found))}: leave one of them out.")
        groups |= {case.id: found.pop()} if found else {}
    return groups


def _refuse_spoilt(name: str, path: Path, given: Mapping[str, str]) -> None:
    """``UserError`` where a spreadsheet took the id for a number."""
    short = name.lstrip("0") or "0"
    digits = name.isdecimal() and next((text for text in given if text in (short, f"{short}.0", f"{short},0")), None)
    powers = name.isdecimal() and next((text for text in given if re.fullmatch(r"\d([.,]\d+)?E\+\d+", text)), None)
    if found := digits or powers:
        raise UserError(
            f"{path} has the id {found!r} where the image is {name!r}: a spreadsheet took it for a number; "
            "format that column as text and enter the ids again."
        )


def _by_ranges(dataset: Dataset, path: Path, rows: list[dict[str, str]], columns: tuple[str, str, str]) -> dict[str, str]:
    groups: dict[str, str] = {}
    try:
        ranges = [(int(row[columns[0]]), int(row[columns[1]]), row[columns[2]].strip()) for row in rows]
    except (ValueError, KeyError):
        raise UserError(f"{path} must hold whole numbers in first_frame and last_frame, and a column {columns[2]!r}.") from None
    for name in dataset.ids:
        digits = re.findall(r"\d+", name)
        number = int(digits[-1]) if digits else -1
        found = {group for first, last, group in ranges if first <= number <= last}
        if len(found) > 1:
            raise UserError(f"{path} puts image {name!r} into {' and '.join(sorted(found))}: its ranges overlap.")
        groups |= {name: found.pop()} if found else {}
    return groups
