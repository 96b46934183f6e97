"""Rows as a table in HTML."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

_WORDS = ("model", "class")  # the columns that are no numbers


def as_html(rows: Sequence[Mapping[str, object]], colours: Sequence[str]) -> str:
    """With the keys as headings, and in front of every class the colour of its contour.

    >>> as_html([{"class": "a<b", "ml": 1.5}], ["#E69F00"]).split("<tbody>")[1]
    '<tr><td><i style="background:#E69F00"></i>a&lt;b</td><td class="number">1.5</td></tr></tbody></table>'
    """
    head = "".join(f'<th scope="col"{_kind(name)}>{escape(name)}</th>' for name in rows[0])
    body = "".join(
        f"<tr>{''.join(_cell(name, value, colour) for name, value in row.items())}</tr>"
        for row, colour in zip(rows, colours, strict=True)
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _kind(name: str) -> str:
    return "" if name in _WORDS else ' class="number"'


def _cell(name: str, value: object, colour: str) -> str:
    mark = f'<i style="background:{colour}"></i>' if name == "class" else ""
    return f"<td{_kind(name)}>{mark}{escape(str(value))}</td>"
