"""The table of the proxy: every row against its reference, over trainings and subjects.

python -m benchmarks.proxy.table FOLDER --out benchmarks/results/proxy.json --page docs/evidence/splines.md
"""

from __future__ import annotations

import math
from collections import defaultdict
from pathlib import Path
from statistics import fmean, median
from typing import Annotated, Any

import numpy as np
from typer import Argument, Option

from allukan.errors import UserError
from allukan.files import read_json
from allukan.scores import crossed_difference
from benchmarks.program import Program
from benchmarks.proxy.pictures import FOLDS
from benchmarks.proxy.rows import ROWS
from benchmarks.report import Result
from benchmarks.report import Row as Line

Cells = dict[str, dict[int, dict[str, Any]]]


def read_cells(folder: Path) -> Cells:
    """Every finished cell by row and seed."""
    found: Cells = defaultdict(dict)
    for path in sorted(folder.glob("*@*.json")):
        cell = read_json(path)
        found[cell["row"]][cell["seed"]] = cell
    if not found:
        raise UserError(f"{folder} holds no cell: run python -m benchmarks.proxy.cells {folder} first.")
    return found


def line(cells: Cells, row: str, part: str) -> Line:
    """Of one row: its mean Dice, and its difference from the reference over the seeds that both have, in points."""
    own, reference = cells[row], ROWS[row].against
    other = cells.get(reference, {})
    seeds = sorted(own.keys() & other.keys())
    options = next(iter(own.values()))
    found: Line = {"row": row, "parameters": options["parameters"], "seeds": len(own)}
    found["Dice, %"] = round(100 * fmean(np.mean(cell["scores"][part]) for cell in own.values()), 2)
    if seeds and reference != row:
        found_by = {seed: _subjects(own[seed], part) - _subjects(other[seed], part) for seed in seeds}
        of = crossed_difference(100 * (_in_folds(found_by) if row.startswith("pictures/") else np.stack(list(found_by.values()))))
        se = None if math.isnan(of.se) else round(of.se, 2)  # of one seed: nothing is known of other trainings
        found |= {"against": reference, "difference": round(of.mean, 2), "standard error": se}
        found["interval"] = [round(end, 2) for end in of.interval]
    if "ka_share" in options:
        found["bend"] = round(fmean(median(cell["bends"].values()) for cell in own.values()), 3)
        found["KA share, points"] = round(fmean(cell["ka_share"] for cell in own.values()), 2)
    found["training loss"] = round(fmean(cell["curve"][-1] for cell in own.values()), 4)
    return found


def _subjects(cell: dict[str, Any], part: str) -> np.ndarray:
    """Dice of every subject, the mean of its classes."""
    return np.mean(cell["scores"][part], axis=1)


def _in_folds(differences: dict[int, np.ndarray]) -> np.ndarray:
    """A row a seed, a column a picture: seed s has those of fold s mod 5 (``benchmarks.proxy.pictures``), nan elsewhere."""
    counts = {seed % FOLDS: len(found) for seed, found in differences.items()}
    first = dict(zip(counts, np.cumsum([0, *counts.values()]), strict=False))
    table = np.full((len(differences), sum(counts.values())), np.nan)
    for row, (seed, found) in zip(table, differences.items(), strict=True):
        row[first[seed % FOLDS] :][: len(found)] = found
    return table


def table(
    folder: Annotated[Path, Argument(help="Folder of the cells.", show_default=False)],
    part: Annotated[str, Option(help="val, which chooses, or test, which confirms.")] = "val",
) -> Result:
    """Dice a subject and class of every row, and its difference from its reference over trainings and subjects."""
    cells = read_cells(folder)
    return Result([line(cells, row, part) for row in sorted(cells, key=list(ROWS).index)], about={"part": part})


program = Program("proxy", table, block="proxy")

if __name__ == "__main__":
    program()
