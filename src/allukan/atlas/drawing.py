"""A portrait as the paths of an SVG: numbers and letters only, so that nothing a user wrote is drawn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from allukan.atlas.portraits import Portrait, Values

WIDTH, HEIGHT = 200, 120
_FOOT = 12  # below the curves, for the ends of the grid
_BAR = 0.45  # of the height, for the highest bar


@dataclass(frozen=True)
class Drawing:
    """Paths in a box of ``WIDTH`` × ``HEIGHT``, y downward.

    Attributes:
        histogram: area of the inputs.
        phi: the curves φ, base and spline part.
        base: …
        spline: …
        band: area of 8 of 10 activations, "" for one alone.
        dead: boxes ``(x, width)`` of grid intervals without inputs.
        grid: x of the two ends of the grid.
        zero: y of φ = 0.
        bottom: y of the foot of the histogram.
        scale: lowest and highest φ of the picture.
    """

    histogram: str
    phi: str
    base: str
    spline: str
    band: str
    dead: tuple[tuple[float, float], ...]
    grid: tuple[float, float]
    zero: float
    bottom: float
    scale: tuple[float, float]


def draw(found: Portrait) -> Drawing:
    """Everything of one portrait, to its ``scale``."""
    low, high = scale(found)
    bottom = HEIGHT - _FOOT
    x = _across(found, found.t)
    curves = {name: path(x, height(values, low, high)) for name, values in _curves(found).items()}
    edges = np.repeat(np.linspace(0, WIDTH, len(found.bars) + 1), 2)[1:-1]
    tops = bottom - np.repeat(found.bars / max(found.bars.max(), 1e-12), 2) * _BAR * bottom
    area = path(np.r_[0.0, edges, WIDTH], np.r_[bottom, tops, bottom]) + "Z"
    ring = None if found.band is None else np.r_[found.band[0], found.band[1][::-1]]
    band = "" if ring is None else path(np.r_[x, x[::-1]], height(ring, low, high)) + "Z"
    dead = tuple((float(a), float(b - a)) for a, b in _across(found, np.array(found.dead).reshape(-1, 2)).round(1))
    first, last = _across(found, np.array(found.grid)).round(1).tolist()
    zero = float(height(np.zeros(1), low, high)[0].round(1))
    return Drawing(area, curves["phi"], curves["base"], curves["spline"], band, dead, (first, last), zero, bottom, (low, high))


def scale(found: Portrait) -> tuple[float, float]:
    """Lowest and highest value where inputs lie, of the curves, the band and 0, with a margin."""
    least, most = found.seen
    inside = (found.t >= least) & (found.t <= most)
    inside = inside if inside.any() else np.ones_like(inside)
    curves = [*_curves(found).values(), *([] if found.band is None else found.band)]
    values = np.concatenate([[0.0], *(curve[inside] for curve in curves)])
    margin = 0.08 * float(np.ptp(values)) or 1.0
    return float(values.min()) - margin, float(values.max()) + margin


def height(values: Values, low: float, high: float) -> Values:
    """y of values of φ; what is far off the picture stays near it."""
    y = (high - values) / (high - low) * (HEIGHT - _FOOT)
    return y.clip(-HEIGHT, 2 * HEIGHT)


def path(x: Sequence[float] | Values, y: Sequence[float] | Values) -> str:
    """A line through points.

    >>> path([0, 1.04], [2, 3])
    'M0 2L1 3'
    """
    return "M" + "L".join(f"{_short(a)} {_short(b)}" for a, b in zip(x, y, strict=True))


def _short(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")


def _curves(found: Portrait) -> dict[str, Values]:
    return {"phi": found.phi, "base": found.base, "spline": found.spline}


def _across(found: Portrait, t: Values) -> Values:
    return (t - found.t[0]) / (found.t[-1] - found.t[0]) * WIDTH
