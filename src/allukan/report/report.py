"""One self-contained HTML page on one or several runs."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from allukan.report import page, plots

_COLUMNS = {"dice": "Dice", "iou": "IoU", "hd95": "HD95", "surface_dice": "surface Dice"}


@dataclass(frozen=True)
class Overlay:
    """One picture: image uint8 ``(H, W)`` or ``(H, W, 3)``, masks bool ``(K, H, W)``, and its Dice."""

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
    parts = [
        page.section("Runs", _facts(runs)),
        page.section("Scores", _scores(runs) + _pooled(runs)),
        page.section("Training", _training(runs)),
        *(page.section(f"Cases: {run.name}", _overlays(run)) for run in runs),
        *(page.section(f"Learned activations: {run.name}", _activations(run)) for run in runs),
    ]
    return page.write(title, parts, out)


def _facts(runs: Sequence[RunReport]) -> str:
    names = list(dict.fromkeys(name for run in runs for name in run.facts))
    rows = [[html.escape(name), *(html.escape(run.facts.get(name, "")) for run in runs)] for name in names]
    return page.table(["", *(html.escape(run.name) for run in runs)], rows)


def _scores(runs: Sequence[RunReport]) -> str:
    """Overall, and a class where there are several: mean and 95 % interval. No winner is marked: the intervals say it."""
    rows = []
    for run in runs:
        classes = run.summary["classes"]
        lines = [("all", run.summary["overall"]), *(classes.items() if len(classes) > 1 else ())]  # one may be called "all"
        for label, figures in lines:
            status = ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in figures["status"].items())
            cells = [_score(figures[key], run.summary, key) for key in _COLUMNS]
            rows.append([html.escape(run.name), html.escape(label), str(figures["cases"]), *cells, html.escape(status)])
    return page.table(["run", "class", "cases", *_COLUMNS.values(), "outcome"], rows)


def _score(figure: Mapping[str, float], summary: Mapping[str, Any], key: str) -> str:
    unit, digits = (f" {summary.get('distance_unit', 'mm')}", 1) if key == "hd95" else ("", 3)
    mean, low, high = (f"{figure[name]:.{digits}f}" for name in ("mean", "low", "high"))
    return f"{mean}{html.escape(unit)}<br><small>{low} … {high}</small>"


def _pooled(runs: Sequence[RunReport]) -> str:
    """The figures of the "ukan" protocol, for the runs that have them."""
    pooled = [(run.name, run.summary["ukan"]) for run in runs if "ukan" in run.summary]
    lines = [f"{html.escape(name)}: IoU {u['iou_pooled']:.3f}, Dice {u['dice_pooled']:.3f}" for name, u in pooled]
    return f"<p>As U-KAN reports, pooled over batches of 8 images. {'; '.join(lines)}.</p>" if lines else ""


def _training(runs: Sequence[RunReport]) -> str:
    """Loss and validation Dice of all runs, in the colours of one legend."""
    histories = [run.history for run in runs]
    figures = {
        "Loss (training solid, validation dashed)": plots.curves(histories, {"train_loss": "-", "val_loss": "--"}),
        "Validation Dice": plots.curves(histories, {"val_dice": "-"}, top=1.0),
    }
    drawn = [
        f"<div><h3>{title}</h3>{page.figure(source, title, kind='plot')}</div>"
        for title, source in figures.items()
        if source is not None
    ]
    if not drawn:
        return "<p>No learning curves were recorded.</p>"
    keys = "".join(
        f'<span><span class="key" style="color:{plots.colour(number)}"></span>{html.escape(run.name)}</span>'
        for number, run in enumerate(runs)
    )
    return f'<p class="keys">{keys}</p><div class="grid halves">{"".join(drawn)}</div>'


def _overlays(run: RunReport) -> str:
    if not run.overlays:
        return "<p>No case has anything to show.</p>"
    legend = (
        f'<p class="keys"><span><span class="mark" style="color:{plots.TRUTH}"></span>truth</span>'
        f'<span><span class="mark dashed" style="color:{plots.PREDICTION}"></span>prediction</span></p>'
    )
    return f'{legend}<div class="grid">{"".join(_overlay(shown) for shown in run.overlays)}</div>'


def _overlay(shown: Overlay) -> str:
    caption = f"{html.escape(shown.title)}, Dice {shown.score:.3f}<br><small>{html.escape(shown.case_id)}</small>"
    picture = plots.overlay(shown.image, shown.truth, shown.prediction)
    return page.figure(picture, f"outlines of case {shown.case_id}", caption, kind="overlay")


def _activations(run: RunReport) -> str:
    if not run.activations:
        return "<p>This network has no shared activations to show.</p>"
    pictures = "".join(_activation(shown) for shown in run.activations)
    note = "φ(t) of every layer, one colour an activation; the grey lines are the axes, and the ranges stand below."
    return f'<p>{note}</p><div class="grid small">{pictures}</div>'


def _activation(shown: Activation) -> str:
    ranges = f"t {_range(shown.t)}<br>φ {_range(shown.curves)}"
    name = html.escape(shown.name).replace(".", ".<wbr>")  # long names break at their dots
    caption = f"{name}<br><small>{ranges}</small>"
    return page.figure(plots.activation(shown.t, shown.curves), f"activation of {shown.name}", caption, kind="plot")


def _range(values: NDArray[np.floating]) -> str:
    return f"{values.min():.2g} … {values.max():.2g}".replace("-", "−")
