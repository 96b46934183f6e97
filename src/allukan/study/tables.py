"""Tables as Markdown, LaTeX and CSV."""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from allukan.errors import UserError
from allukan.files import check_replaceable

_FORMS = {"p": ".2g", "p (Holm)": ".2g", "images alone": ".2g", "trainings needed": ".0f"}  # of floats, by heading


class Spread(NamedTuple):
    """Mean and standard deviation; None for one value only."""

    mean: float
    sd: float | None


class Interval(NamedTuple):
    """A figure and its confidence interval."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class Table:
    """``rows`` of text, whole numbers, floats, ``Spread`` and ``Interval``; the first three columns say what a row is about."""

    title: str
    note: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]


def check_tables(out: Path) -> None:
    """Raises ``UserError`` where a file is there that holds no tables of a comparison."""
    check_replaceable(out, "## Scores", r"\begin{table}", "table,data,")


def render(tables: Sequence[Table], style: str) -> str:
    """All tables in one text. ``style`` is "markdown", "latex" or "csv"; ``UserError`` for another.

    In CSV every figure has a line of its own, in full precision: table, data, protocol, model, quantity, value.
    """
    styles = {"markdown": _markdown, "latex": _latex, "csv": _csv}
    if style not in styles:
        raise UserError(f"unknown format {style!r}: choose one of {', '.join(styles)}.")
    return styles[style](tables)


def texts(table: Table) -> list[list[str]]:
    """The rows of a table, every cell for people."""
    return [[_text(cell, heading) for cell, heading in _pairs(table, row)] for row in table.rows]


def _text(cell: Any, heading: str) -> str:
    """A cell for people."""
    digits = 1 if "HD95" in heading or "minutes" in heading else 3
    if isinstance(cell, Spread) and math.isnan(cell.mean):
        return "–"
    if isinstance(cell, Spread):
        return f"{cell.mean:.{digits}f}" + ("" if cell.sd is None else f" ± {cell.sd:.{digits}f}")
    if isinstance(cell, Interval) and math.isnan(cell.low):  # of one group of images
        return f"{cell.mean:+.{digits}f}"
    if isinstance(cell, Interval):
        return f"{cell.mean:+.{digits}f} [{cell.low:+.{digits}f}, {cell.high:+.{digits}f}]"
    if isinstance(cell, float) and not math.isfinite(cell):
        return "–" if math.isnan(cell) else "∞"
    if isinstance(cell, float):
        return f"{cell:{_FORMS.get(heading, f'.{digits}f')}}"
    return f"{cell:,}" if heading == "parameters" else str(cell)


def _markdown(tables: Sequence[Table]) -> str:
    parts = []
    for table in tables:
        rows = [[_plain(_text(cell, heading), cell) for cell, heading in _pairs(table, row)] for row in table.rows]
        lines = [list(table.columns), ["---"] * len(table.columns), *rows]
        body = "\n".join(f"| {' | '.join(line)} |" for line in lines)
        parts.append(f"## {_plain(table.title)}\n\n{_plain(table.note)}\n\n{body}\n")
    return "\n".join(parts)


def _plain(text: str, cell: Any = "") -> str:
    """Names as they are: what Markdown would take for its own is escaped; figures have nothing of the kind."""
    if not isinstance(cell, str):
        return text
    text = re.sub(r"[\\`*|<]|\[(?=[^\]]*\]\()|(?<!\w)_|_(?!\w)", r"\\\g<0>", text)
    return " ".join(text.splitlines())


def _latex(tables: Sequence[Table]) -> str:
    """``tabular`` in ``table``, with the rules of the package booktabs."""
    parts = []
    for table in tables:
        rows = [[_escaped(_text(cell, heading)) for cell, heading in _pairs(table, row)] for row in table.rows]
        lines = [" & ".join(line) + r" \\" for line in rows]
        lines = ["{}" + line if line.startswith(("[", "*")) else line for line in lines]  # not an option of the row above
        heading = " & ".join(map(_escaped, table.columns)) + r" \\"
        alignment = "lll" + "r" * (len(table.columns) - 3)
        head = [
            r"\begin{table}",
            rf"\caption{{{_escaped(table.title)}. {_escaped(table.note)}}}",
            rf"\begin{{tabular}}{{{alignment}}}",
        ]
        foot = [r"\bottomrule", r"\end{tabular}", r"\end{table}", ""]
        parts.append("\n".join([*head, r"\toprule", heading, r"\midrule", *lines, *foot]))
    return "\n".join(parts)


def _escaped(text: str) -> str:
    special = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
    special |= {character: f"\\{character}" for character in "&%$#_{}"}
    special |= {"±": r"$\pm$", "Δ": r"$\Delta$", "→": r"$\to$", "∞": r"$\infty$", "–": "--"}
    special |= {"<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}", "\n": " "}
    return "".join(special.get(character, character) for character in text)


def _csv(tables: Sequence[Table]) -> str:
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(["table", "data", "protocol", "model", "quantity", "value"])
    for table in tables:
        for row in table.rows:
            for cell, heading in list(_pairs(table, row))[3:]:
                for suffix, value in _flat(cell).items():
                    writer.writerow([table.title, *row[:3], heading + suffix, value])
    return buffer.getvalue()


def _flat(cell: Any) -> dict[str, Any]:
    """The numbers of a cell, by what is added to its heading."""
    if isinstance(cell, Spread | Interval):
        named = {f" {name}": value for name, value in cell._asdict().items() if value is not None}
        return {"": named.pop(" mean"), **named}
    return {"": cell}


def _pairs(table: Table, row: Sequence[Any]) -> list[tuple[Any, str]]:
    return list(zip(row, table.columns, strict=True))
