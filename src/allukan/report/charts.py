"""What a chart of the page is: axes, series and marks as numbers, which ``templates/chart.html`` draws as SVG."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from matplotlib.ticker import LogLocator, MaxNLocator

WIDTH, LEFT, RIGHT, TOP, BOTTOM = 400, 42, 18, 20, 36  # of a chart and its margins: a phone's, for text of 12


class Point(NamedTuple):
    """A mark at (x, y); ``text`` says what it is, ``link`` where more about it stands, ``shape`` is a status of a case."""

    x: float
    y: float
    text: str = ""
    link: str = ""
    shape: str = "ok"


@dataclass(frozen=True)
class Series:
    """Points of one colour, joined by a line where ``line`` says so; ``number`` is the place of the colour."""

    name: str
    number: int
    points: Sequence[Point]
    line: bool = False
    dashed: bool = False
    marks: bool = True


class Rule(NamedTuple):
    """A straight line from (x, y) to (x2, y2) with words at its end, that all is read against."""

    x: float
    y: float
    x2: float
    y2: float
    text: str = ""


class Bar(NamedTuple):
    """An interval along x with its mean, in the colour ``number``."""

    low: float
    mean: float
    high: float
    y: float
    number: int
    text: str


class Label(NamedTuple):
    """Words at a place."""

    x: float
    y: float
    text: str


@dataclass(frozen=True)
class Axis:
    """From ``low`` to ``high``, with numbers at ``ticks``; ``log``: by factors."""

    label: str
    low: float
    high: float
    ticks: tuple[float, ...] = ()
    log: bool = False

    def share(self, value: float) -> float:
        """Where a value is between the ends, 0 … 1."""
        low, high, at = (math.log10(v) if self.log else v for v in (self.low, self.high, value))
        return (at - low) / (high - low)


def axis(label: str, values: Iterable[float], *, log: bool = False, ticks: int = 5) -> Axis:
    """One that holds all values and ends at round numbers.

    >>> axis("epoch", [1, 9]).ticks
    (0.0, 2.0, 4.0, 6.0, 8.0, 10.0)
    """
    found = [value for value in values if math.isfinite(value) and (value > 0 or not log)] or [1.0]
    low, high = min(found), max(found)
    if not log:
        places = MaxNLocator(ticks, steps=[1, 2, 2.5, 5, 10]).tick_values(low, high)
        return Axis(label, float(places[0]), float(places[-1]), tuple(map(float, places)))
    low, high = low / 1.5, high * 1.5
    subs = (1.0,) if high / low > 300 else (1.0, 2.0, 5.0)
    places = [float(place) for place in LogLocator(subs=subs, numticks=20).tick_values(low, high) if low <= place <= high]
    return Axis(label, low, high, tuple(places), log=True)


UNIT = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)


@dataclass(frozen=True)
class Chart:
    """``alt`` says in words what it shows. Marks beyond the axes are not drawn."""

    title: str
    alt: str
    x: Axis
    y: Axis
    series: Sequence[Series] = ()
    rules: Sequence[Rule] = ()
    bars: Sequence[Bar] = ()
    labels: Sequence[Label] = ()
    height: int = 260

    width = WIDTH

    @property
    def left(self) -> int:
        """The margin, which numbers of the axis need."""
        return LEFT if self.y.ticks else RIGHT

    @property
    def right(self) -> int:
        """Where the plot ends on the right."""
        return WIDTH - RIGHT

    @property
    def top(self) -> int:
        """Where it begins above, below the words of its axis."""
        return TOP if self.y.label else RIGHT // 2

    @property
    def base(self) -> int:
        """Where the plot ends below."""
        return self.height - BOTTOM

    def across(self, x: float) -> float:
        """Of a value of the x axis, in the units of the picture."""
        return round(self.left + self.x.share(x) * (self.right - self.left), 1)

    def down(self, y: float) -> float:
        """Of a value of the y axis."""
        return round(self.base - self.y.share(y) * (self.base - self.top), 1)

    @property
    def legend(self) -> list[Series]:
        """Series to be named."""
        return [series for series in self.series if series.name]


def number(value: float) -> str:
    """A number at an axis.

    >>> number(-0.25), number(5000.0), number(20000.0)
    ('−0.25', '5000', '20k')
    """
    text = f"{value:.10g}" if abs(value) < 10_000 else f"{value / 1000:.10g}k" if abs(value) < 1e7 else f"{value / 1e6:.10g}M"
    return text.replace("-", "−")


def signed(value: float) -> str:
    """A difference.

    >>> signed(0.5), signed(-0.01)
    ('+0.500', '−0.010')
    """
    return f"{value:+.3f}".replace("-", "−")
