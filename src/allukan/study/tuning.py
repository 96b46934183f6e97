"""Equal budgets: every model is tried on the same grid, and validation alone chooses."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from allukan.files import write_json
from allukan.study.cells import Cell, read_finished


def chosen(cells: Sequence[Cell], data: str, model: str) -> dict[str, Any] | None:
    """The options of the grid point with the best validation IoU, the first of equals; None while a point is not done.

    ``cells`` are all of the study.
    """
    points = [cell for cell in cells if cell.point is not None and (cell.data, cell.model) == (data, model)]
    if any(cell.state != "done" for cell in points):
        return None
    best = max(points, key=lambda cell: read_finished(cell)["val_iou"])
    return dict(best.point or {})


def write_tuning(cells: Sequence[Cell], path: Path) -> None:
    """Every grid point done with its score, and what was chosen, by data set and model, to ``tuning.json``."""
    found: dict[str, dict[str, Any]] = {}
    for cell in cells:
        if cell.point is not None and cell.state == "done":
            entry = found.setdefault(cell.data, {}).setdefault(cell.model, {"seed": cell.options["seed"], "points": []})
            entry["points"].append({**cell.point, "val_iou": read_finished(cell)["val_iou"]})
            entry["chosen"] = chosen(cells, cell.data, cell.model)
    if found:
        write_json(path, found)
