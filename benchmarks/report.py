"""Results: rows of figures as aligned Markdown tables, and as JSON with command, commit and machine."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from allukan.errors import UserError
from allukan.files import read_json, write_text

Row = dict[str, Any]
FORMAT = "allukan bench"


@dataclass(frozen=True)
class Result:
    """What a benchmark found.

    Attributes:
        rows: the figures.
        notes: what is missing, a sentence each.
        tables: what is shown of the figures; None shows the rows.
        about: what else the record of the result holds.
    """

    rows: list[Row]
    notes: list[str] = field(default_factory=list)
    tables: list[list[Row]] | None = None
    about: Row = field(default_factory=dict)

    def text(self, where: Row) -> str:
        """Tables, notes and origin in Markdown."""
        tables = [markdown(rows) for rows in self.tables or [self.rows]]
        notes = ["\n".join(f"- {note}" for note in self.notes)] if self.notes else []
        return "\n\n".join([*tables, *notes, origin(where)])


def origin(where: Row) -> str:
    """Where a result comes from, in one line: command, commit, date, machine, versions."""
    versions = f"torch {where['versions']['torch']}"
    return f"`{where['command']}`; commit {str(where['commit'])[:10]}, {where['date'][:10]}, {machine(where)}, {versions}."


def machine(where: Row) -> str:
    """The device, and how it was used."""
    how = [where["precision"]] if "precision" in where else []
    how += ["compiled"] if where.get("compile") else []
    return ", ".join([where["device"], f"{where['threads']} threads", *how])


def markdown(rows: Sequence[Row]) -> str:
    """An aligned Markdown table; units by the ends of the keys: ``_bytes``, ``_flops``, ``_seconds``, ``_ratio``, ``_share``.

    What is a list is left to the JSON.

    >>> print(markdown([{"layer": "conv", "saved_bytes": 4194304, "step_ratio": 1.0}, {"layer": "ka", "saved_bytes": None}]))
    | layer |   saved | step ratio |
    |-------|--------:|-----------:|
    | conv  | 4.0 MiB |     1.00 × |
    | ka    |       – |          – |
    """
    keys = list(dict.fromkeys(key for row in rows for key, value in row.items() if not isinstance(value, list | tuple | dict)))
    names = [key.removesuffix("_bytes").removesuffix("_seconds").replace("_", " ") for key in keys]
    cells = [[_cell(key, row.get(key)) for key in keys] for row in rows]
    left = [any(isinstance(row.get(key), str) for row in rows) for key in keys]
    widths = [max(3, len(name), *(len(line[i]) for line in cells)) for i, name in enumerate(names)]

    def line(texts: Sequence[str]) -> str:
        padded = [t.ljust(w) if flush else t.rjust(w) for t, w, flush in zip(texts, widths, left, strict=True)]
        return "| " + " | ".join(padded) + " |"

    rule = "|" + "|".join("-" * (w + 2) if flush else "-" * (w + 1) + ":" for w, flush in zip(widths, left, strict=True)) + "|"
    return "\n".join([line(names), rule, *(line(texts) for texts in cells)])


def _cell(key: str, value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, str | bool):
        return str(value).replace("|", "\\|")
    if key.endswith("bytes"):
        return f"{value / 2**20:,.1f} MiB"
    if key.endswith("flops"):
        return f"{value / 1e9:,.2f} G"
    if key.endswith("seconds"):
        return f"{1000 * value:,.2f} ms" if value < 10 else f"{value:,.1f} s"
    if key.endswith("ratio"):
        return f"{value:.2f} ×" if value < 10 else f"{value:,.0f} ×"
    if key.endswith("share"):
        return f"{100 * value:.1f} %"
    if key == "parameters":
        return f"{value / 1e6:,.3f} M"
    return str(value) if isinstance(value, int) else f"{value:.4g}"


def check_out(path: Path | None) -> None:
    """``UserError`` unless ``path`` is free, or a result of ours that may be replaced, in a folder that exists."""
    if path is None or not path.exists():
        if path is not None and not path.parent.is_dir():
            raise UserError(f"{path.parent} is not a folder: make it first, or choose another --out.")
        return
    try:
        ours = read_json(path).get("format") == FORMAT
    except (OSError, ValueError, AttributeError):
        ours = False
    if not ours:
        raise UserError(f"{path} exists and is not a result of a benchmark: choose another --out, it is not overwritten.")


def write_json(path: Path, benchmark: str, result: Result, where: Row) -> None:
    """Write the result whole or not at all; raises as ``check_out`` does."""
    check_out(path)
    content = {"format": FORMAT, "benchmark": benchmark, **where, "notes": result.notes, "rows": result.rows}
    write_text(path, json.dumps(content, indent=1, ensure_ascii=False) + "\n")
