"""Rows as a table in HTML."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape


def as_html(rows: Sequence[Mapping[str, object]]) -> str:
    """With the keys as headings; a column whose first value begins with a digit is one of numbers.

    >>> as_html([{"class": "a<b", "ml": 1.5}])[:40]
    '<table><thead><tr><th scope="col">class<'
    """
    numbers = {name for name, value in rows[0].items() if name not in ("model", "class") and str(value)[:1].isdigit()}

    def kind(name: str) -> str:
        return ' class="number"' if name in numbers else ""

    head = "".join(f'<th scope="col"{kind(name)}>{escape(name)}</th>' for name in rows[0])
    body = "".join(
        f"<tr>{''.join(f'<td{kind(name)}>{escape(str(value))}</td>' for name, value in row.items())}</tr>" for row in rows
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
