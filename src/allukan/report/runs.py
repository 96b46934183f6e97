"""One self-contained HTML page on one or several runs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from allukan.report import page, plots
from allukan.report.palette import LINES, pick

HEADINGS = {"dice": "Dice", "iou": "IoU", "hd95": "HD95", "surface_dice": "surface Dice"}  # of the metrics, for people
DISTANCES = ("hd95",)  # those with a unit, of which less is better


@dataclass(frozen=True)
class Overlay:
    """One picture: image uint8 ``(H, W[, C])``, masks bool ``(K, H, W)``, and its Dice."""

    case_id: str
    title: str
    image: NDArray[np.uint8]
    truth: NDArray[np.bool_]
    prediction: NDArray[np.bool_]
    score: float


@dataclass(frozen=True)
class Activation:
    """The learned activations of one layer: t ``(P,)``, curves ``(A, P)``."""

    name: str
    t: NDArray[np.floating]
    curves: NDArray[np.floating]


@dataclass(frozen=True)
class RunReport:
    """What the page shows of one run; ``summary`` as ``summarise`` returns it, with ``distance_unit``."""

    name: str
    history: Sequence[Mapping[str, float]]
    summary: Mapping[str, Any]
    overlays: Sequence[Overlay]
    activations: Sequence[Activation]
    facts: Mapping[str, str]


def write_report(runs: Sequence[RunReport], out: Path, title: str) -> Path:
    """Write ``out``, whole or not at all, and return it. Everything is inside the file; nothing is loaded from elsewhere.

    What a run lacks (history, overlays, activations) is said in a line. The runs are one to a few, in the order of their colours.
    """
    return page.write(
        out,
        "report.html",
        title=title,
        runs=runs,
        facts=list(dict.fromkeys(name for run in runs for name in run.facts)),
        metrics=HEADINGS.values(),
        scores=[row for run in runs for row in _scores(run)],
        pooled=[_pooled(run) for run in runs if "ukan" in run.summary],
        legend=[(run.name, pick(LINES, number)) for number, run in enumerate(runs)],
        curves=_curves([run.history for run in runs]),
    )


def _scores(run: RunReport) -> Iterator[tuple[str, str, int, list[tuple[str, str]], str]]:
    """Overall, and a class where there are several: mean and 95 % interval. No winner is marked: the intervals say it."""
    classes = run.summary["classes"]
    lines = [("all", run.summary["overall"]), *(classes.items() if len(classes) > 1 else ())]  # one may be called "all"
    for label, figures in lines:
        outcome = ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in figures["status"].items())
        yield run.name, label, figures["cases"], [_score(figures[key], run.summary, key) for key in HEADINGS], outcome


def _score(figure: Mapping[str, float], summary: Mapping[str, Any], key: str) -> tuple[str, str]:
    """Mean with its unit, and interval."""
    unit, digits = (f" {summary.get('distance_unit', 'mm')}", 1) if key in DISTANCES else ("", 3)
    mean, low, high = (f"{figure[name]:.{digits}f}" for name in ("mean", "low", "high"))
    return mean + unit, f"{low} … {high}"


def _pooled(run: RunReport) -> str:
    """The figures of the "ukan" protocol."""
    figures = run.summary["ukan"]
    return f"{run.name}: IoU {figures['iou_pooled']:.3f}, Dice {figures['dice_pooled']:.3f}"


def _curves(histories: Sequence[plots.History]) -> dict[str, str]:
    """Pictures by their titles, of what was recorded."""
    figures = {
        "Loss (training solid, validation dashed)": plots.curves(histories, {"train_loss": "-", "val_loss": "--"}),
        "Validation Dice": plots.curves(histories, {"val_dice": "-"}, top=1.0),
    }
    return {title: picture for title, picture in figures.items() if picture is not None}
