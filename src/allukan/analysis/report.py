"""One self-contained HTML page on one or several runs."""

from __future__ import annotations

import html
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from allukan._version import __version__
from allukan.analysis import plots

_STYLE = """
:root { color-scheme: light dark; --line: #8884; --soft: #8881; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.7rem; } h2 { font-size: 1.2rem; margin-top: 2.5rem; border-bottom: 1px solid var(--line); }
.wide { overflow-x: auto; } table { border-collapse: collapse; }
th, td { padding: .3rem .9rem .3rem 0; text-align: left; vertical-align: top; }
tr + tr { border-top: 1px solid var(--line); } td small { opacity: .7; white-space: nowrap; }
.grid { display: grid; gap: 1rem; grid-template-columns: repeat(auto-fill, minmax(15rem, 1fr)); }
.small { gap: .5rem; grid-template-columns: repeat(auto-fill, minmax(8.5rem, 1fr)); }
figure { margin: 0; } img { max-width: 100%; display: block; } figcaption { font-size: .8rem; overflow-wrap: anywhere; }
.plot { background: #fff; border-radius: .4rem; padding: .3rem; }
.key { display: inline-block; width: 1.4rem; height: .25rem; vertical-align: middle; }
footer { margin-top: 3rem; font-size: .85rem; border-top: 1px solid var(--line); }
"""
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
    """Write ``out``, whole or not at all, and return it. Everything is inside the file; nothing is loaded from elsewhere."""
    parts = [
        _section("Runs", _facts(runs)),
        _section("Scores", _scores(runs)),
        _section("Training", _figure(plots.curves({run.name: run.history for run in runs}), "learning curves")),
        *(_section(f"Cases: {run.name}", _overlays(run)) for run in runs),
        *(_section(f"Learned activations: {run.name}", _activations(run)) for run in runs),
    ]
    heading = html.escape(title)
    page = (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{heading}</title>'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><style>{_STYLE}</style></head>'
        f"<body><h1>{heading}</h1>{''.join(parts)}{_footer()}</body></html>\n"
    )
    out.parent.mkdir(parents=True, exist_ok=True)
    part = out.with_name(out.name + ".part")
    part.write_text(page, encoding="utf-8")
    os.replace(part, out)
    return out


def _section(title: str, body: str) -> str:
    return f"<section><h2>{html.escape(title)}</h2>{body}</section>"


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Cells are HTML already."""
    head = "".join(f"<th>{cell}</th>" for cell in header)
    body = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
    return f'<div class="wide"><table><tr>{head}</tr>{body}</table></div>'


def _facts(runs: Sequence[RunReport]) -> str:
    names = list(dict.fromkeys(name for run in runs for name in run.facts))
    rows = [[html.escape(name), *(html.escape(run.facts.get(name, "")) for run in runs)] for name in names]
    return _table(["", *(html.escape(run.name) for run in runs)], rows)


def _scores(runs: Sequence[RunReport]) -> str:
    """Overall, and a class where there are several: mean and 95 % interval."""
    rows = []
    for run in runs:
        classes = run.summary["classes"]
        lines = {"all": run.summary["overall"], **(classes if len(classes) > 1 else {})}
        for label, figures in lines.items():
            status = ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in figures["status"].items())
            cells = [_score(figures[key], run.summary, key) for key in _COLUMNS]
            rows.append([html.escape(run.name), html.escape(label), str(figures["cases"]), *cells, html.escape(status)])
    return _table(["run", "class", "cases", *_COLUMNS.values(), "outcome"], rows)


def _score(figure: Mapping[str, float], summary: Mapping[str, Any], key: str) -> str:
    unit, digits = (f" {summary['distance_unit']}", 1) if key == "hd95" else ("", 3)
    mean, low, high = (f"{figure[name]:.{digits}f}" for name in ("mean", "low", "high"))
    return f"{mean}{html.escape(unit)}<br><small>{low} … {high}</small>"


def _figure(source: str, alternative: str, caption: str = "", kind: str = "plot") -> str:
    text = f"<figcaption>{html.escape(caption)}</figcaption>" if caption else ""
    return f'<figure><img class="{kind}" src="{source}" alt="{html.escape(alternative)}">{text}</figure>'


def _overlays(run: RunReport) -> str:
    legend = (
        f'<p><span class="key" style="background:{plots.TRUTH}"></span> truth (solid) &nbsp; '
        f'<span class="key" style="background:{plots.PREDICTION}"></span> prediction (dashed)</p>'
    )
    pictures = [
        _figure(
            plots.overlay(o.image, o.truth, o.prediction), o.case_id, f"{o.title}: {o.case_id}, Dice {o.score:.3f}", "overlay"
        )
        for o in run.overlays
    ]
    return f'{legend}<div class="grid">{"".join(pictures)}</div>' if pictures else "<p>No cases.</p>"


def _activations(run: RunReport) -> str:
    if not run.activations:
        return "<p>This network has no shared activations to show.</p>"
    low, high = run.activations[0].t[[0, -1]]
    pictures = [_figure(plots.activation(a.t, a.curves), f"activation of {a.name}", a.name) for a in run.activations]
    note = f"<p>φ(t) of every layer for t from {low:g} to {high:g}, each on its own scale; thin lines are the axes.</p>"
    return f'{note}<div class="grid small">{"".join(pictures)}</div>'


def _footer() -> str:
    return f"""<footer><p>Means over cases, with 95 % bootstrap intervals that draw whole groups (patients, sequences) where these
are known. Where truth and prediction are both empty the scores are 1 and HD95 is 0; where only one is empty the scores are 0 and
HD95 is the diagonal of the image. Surface Dice at a tolerance of 2 pixels, or 2 mm where the spacing is given.</p>
<p>allukan {__version__}. Not a medical device.</p></footer>"""
