"""The page: one file that loads nothing from elsewhere. Whatever its template is given is text, and escaped."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from allukan.atlas import drawing
from allukan.atlas.layout import short, stages
from allukan.atlas.portraits import Portrait, Values
from allukan.files import write_text
from allukan.report.rendering import templates_beside

LEVELS = (0.01, 0.03, 0.1, 0.2, 0.4)  # of bend, between the colours
EPOCHS = 24  # of a training that the slider has at most


@dataclass(frozen=True)
class Shares:
    """Dice in points, and what is lost of it when every φ is the nearest a·b + c; None where it was not measured."""

    dice: float | None = None
    total: float | None = None


@dataclass(frozen=True)
class Course:
    """How activations came to be: φ at the places of their portraits, ``(E, P)`` by layer, after E epochs; their median bend."""

    epochs: Sequence[int]
    bends: Sequence[float]
    phi: Mapping[str, Values]


def write_atlas(
    out: Path,
    title: str,
    rows: Sequence[Mapping[str, Any]],
    portraits: Mapping[str, Portrait],
    *,
    note: str,
    bend: float,
    shares: Shares,
    course: Course | None,
) -> Path:
    """Write the page of a network, whole or not at all, and return its path.

    ``rows`` has of every layer name, kind, sharing, activations, bend, outside, intervals, dead and ka_share, which may be None;
    ``portraits`` its activation, by name; ``note`` says over what all was measured; ``bend`` is the median over layers.
    """
    largest = max([abs(row["ka_share"]) for row in rows if row["ka_share"] is not None], default=0.0) or 1.0
    cards = {str(row["name"]): _card(row, portraits[row["name"]], largest) for row in rows}
    content = {
        "title": title,
        "stages": stages(list(cards)),
        "cards": cards,
        "facts": _facts(rows, portraits, bend, shares),
        "note": note,
        "measured": shares.total is not None,
        "levels": _levels(),
        "course": None if course is None else _course(course, portraits),
        "width": drawing.WIDTH,
        "height": drawing.HEIGHT,
    }
    out.parent.mkdir(parents=True, exist_ok=True)
    write_text(out, _TEMPLATES.get_template("atlas.html").render(content))
    return out


def _card(row: Mapping[str, Any], found: Portrait, largest: float) -> dict[str, Any]:
    share = row["ka_share"]
    return {
        **row,
        "short": short(str(row["name"])),
        "level": sum(row["bend"] >= limit for limit in LEVELS),
        "fit": found.fit,
        "number": found.number + 1,
        "bends": found.bends,
        "bar": None if share is None else abs(share) / largest * 100,
        "draw": drawing.draw(found),
        "grid": found.grid,
    }


def _facts(rows: Sequence[Mapping[str, Any]], portraits: Mapping[str, Portrait], bend: float, shares: Shares) -> dict[str, Any]:
    measured = [row for row in rows if row["ka_share"] is not None]
    return {
        "layers": len(rows),
        "activations": sum(row["activations"] for row in rows),
        "bend": bend,
        "bent": sum(row["bend"] >= LEVELS[2] for row in rows),
        "dead": sum(row["dead"] for row in rows),
        "intervals": sum(row["intervals"] for row in rows),
        "names": Counter(portraits[row["name"]].fit.name for row in rows).most_common(),
        "dice": shares.dice,
        "total": shares.total,
        "most": sorted(measured, key=lambda row: -row["ka_share"])[:3],
    }


def _levels() -> list[str]:
    ends = [f"{limit:g}" for limit in LEVELS]
    return [f"below {ends[0]}", *(f"{a} to {b}" for a, b in pairwise(ends)), f"{ends[-1]} and more"]


def _course(course: Course, portraits: Mapping[str, Portrait]) -> dict[str, Any]:
    """For the slider: y of every curve in tenths."""
    chosen = np.unique(np.linspace(0, len(course.epochs) - 1, min(EPOCHS, len(course.epochs))).round().astype(int)).tolist()
    curves = {}
    for name, phi in course.phi.items():
        low, high = drawing.scale(portraits[name])
        curves[name] = (10 * drawing.height(phi[chosen], low, high)).round().astype(int).tolist()
    bends = [course.bends[i] for i in chosen]
    return {
        "epochs": [course.epochs[i] for i in chosen],
        "bends": [None if b != b else round(b, 4) for b in bends],
        "curves": curves,
    }


def _signed(value: float) -> str:
    text = f"{value:+.2f}".replace("-", "−")
    return "0.00" if text[1:] == "0.00" else text


def _figure(value: float) -> str:
    return "unknown" if value != value else f"{value:.3f}"  # of a layer that met nothing


def _percent(value: float) -> str:
    if value != value:
        return "unknown"
    if 0 < value < 0.0005:
        return "under 0.1 %"
    return f"{100 * value:.{0 if value >= 0.1 else 1}f} %"


def _end(value: float) -> str:
    return f"{value:.3g}".replace("-", "−")


_TEMPLATES = templates_beside(__file__)
_TEMPLATES.filters |= {"signed": _signed, "figure": _figure, "percent": _percent, "end": _end}
