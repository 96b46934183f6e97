"""``--set NAME=VALUE``."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from allukan.errors import UserError


def parse_assignments(texts: Iterable[str]) -> dict[str, Any]:
    """``["a.b=1", "a.c=x"]`` → ``{"a": {"b": 1, "c": "x"}}``, the values read as YAML; the last one of a name wins.

    >>> parse_assignments(["spline.sharing=4", "norm=group", "ema=1e-3"])
    {'spline': {'sharing': 4}, 'norm': 'group', 'ema': 0.001}
    """
    parsed: dict[str, Any] = {}
    for text in texts:
        name, value = _parse(text)
        *above, last = name.split(".")
        place = parsed
        for key in above:
            if not isinstance(place.get(key), dict):
                place[key] = {}
            place = place[key]
        both = isinstance(value, dict) and isinstance(place.get(last), dict)
        place[last] = place[last] | value if both else value
    return parsed


def _parse(assignment: str) -> tuple[str, Any]:
    from allukan.yaml_files import read_value

    name, equals, text = assignment.partition("=")
    if not (name and equals):
        raise UserError(f"--set {assignment!r} is not usable: write NAME=VALUE.")
    try:
        return name, read_value(text)
    except ValueError:
        raise UserError(f"--set {assignment!r} is not usable: {text!r} is not a YAML value.") from None
