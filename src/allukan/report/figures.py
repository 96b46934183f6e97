"""The charts of the page, of runs side by side."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import count

import numpy as np

from allukan.report.cases import BOTH_EMPTY
from allukan.report.charts import UNIT, Axis, Bar, Chart, Label, Point, Rule, Series, axis, number, signed
from allukan.report.runs import Paired, RunReport, Score

Links = Mapping[tuple[str, str], str]  # folder of the data and name of a case: its place in the page
_BINS, _ROW = 80, 62  # of Dice along x, and the height of a strip
_DICE = Axis("Dice", 0.0, 1.0, UNIT)


def distribution(runs: Sequence[RunReport], links: Links) -> Chart:
    """Dice of every case as a dot, a strip for every run and class, with mean and interval below it."""
    strips = list(_strips(runs))
    series, bars, labels, spoken = [], [], [], []
    for row, (run, label, name) in enumerate(strips):
        floor = float(len(strips) - 1 - row)
        scores = [score for score in run.scores if label in (None, score.label)]
        figure = (run.summary["overall"] if label is None else run.summary["classes"][label])["dice"]
        words = f"{name}: mean Dice {figure['mean']:.3f}, 95 % interval {figure['low']:.3f} to {figure['high']:.3f}".lstrip(": ")
        series.append(Series("", row, _stacked(run, scores, floor, links)))
        bars.append(Bar(figure["low"], figure["mean"], figure["high"], floor + 0.1, row, words))
        labels += [Label(0.0, floor + 0.8, name)] if name else []
        spoken.append(f"{words}, {len(scores)} cases")
    return Chart(
        "Dice of every case",
        "Dice of every case as a dot. " + ". ".join(spoken) + ".",
        _DICE,
        Axis("", 0.0, float(len(strips))),
        series,
        [Rule(0, floor, 1, floor) for floor in range(1, len(strips))],  # or a name seems to be that of the dots above it
        bars=bars,
        labels=labels,
        height=44 + _ROW * len(strips),
    )


def _strips(runs: Sequence[RunReport]) -> Iterator[tuple[RunReport, str | None, str]]:
    """Run, class (None for the only one) and what to call them."""
    for run in runs:
        for label in run.summary["classes"] if run.classed else (None,):
            yield run, label, ", ".join(part for part in (run.name if len(runs) > 1 else "", label or "") if part)


def _stacked(run: RunReport, scores: Sequence[Score], floor: float, links: Links) -> list[Point]:
    """Dots of nearly the same Dice above each other."""
    bins: dict[int, list[Score]] = {}
    for score in sorted(scores, key=lambda s: s.metrics["dice"]):
        bins.setdefault(round(score.metrics["dice"] * _BINS), []).append(score)
    step = min(0.085, 0.55 / max((len(found) for found in bins.values()), default=1))
    return [
        _point(place / _BINS, floor + 0.2 + step * (level + 0.5), run, score, links)
        for place, found in bins.items()
        for level, score in enumerate(found)
    ]


def _point(x: float, y: float, run: RunReport, score: Score, links: Links) -> Point:
    label = f", {score.label}" if run.classed else ""
    text = f"{score.case}{label}: Dice {score.metrics['dice']:.3f}" + ("" if score.status == "ok" else f", {said(score.status)}")
    return Point(x, y, text, links.get((run.place, score.case), ""), score.status)


def said(status: str) -> str:
    """A status for people: that something is outlined does not say that it is right.

    >>> said("ok"), said("false_alarm")
    ('outlined', 'false alarm')
    """
    return {"ok": "outlined"}.get(status, status.replace("_", " "))


def reliability(runs: Sequence[RunReport]) -> Chart | None:
    """Share of pixels that belong to a class against the probability that was given for it; None where no model was applied."""
    series, spoken = [], []
    for place, (name, run, k) in zip(count(), _classes(runs), strict=False):
        found = run.probabilities
        assert found
        points = [
            Point(said, share, f"{name}: {said:.2f} said, {share:.2f} so".lstrip(": "))
            for said, share in zip(found.said[k], found.share[k], strict=True)
            if not math.isnan(said)
        ]
        series.append(Series(f"{name}, ECE {found.ece[k]:.4f}".lstrip(", "), place, points, line=True))
        spoken.append(f"{name} expected calibration error {found.ece[k]:.4f}".strip())
    if not series:
        return None
    alt = "How often pixels belong to a class, against the probability that the model gave. " + "; ".join(spoken) + "."
    x, y = Axis("probability said", 0.0, 1.0, UNIT), Axis("share that is so", 0.0, 1.0, UNIT)
    return Chart("Calibration", alt, x, y, series, [Rule(0, 0, 1, 1)])


def thresholds(runs: Sequence[RunReport]) -> Chart | None:
    """Mean Dice against the threshold of the masks; None where no model was applied."""
    series, spoken, used = [], [], set[float]()
    for place, (name, run, k) in zip(count(), _classes(runs), strict=False):
        assert run.probabilities
        curve, threshold = run.probabilities.dice[k], run.probabilities.threshold
        best = int(curve.argmax())
        words = f"best {curve[best]:.3f} at {best / 100:.2f}"
        series.append(Series(f"{name}: {words}" if name else words, place, _line(curve), line=True, marks=False))
        spoken.append(f"{name} {words}".strip())
        used |= set() if threshold is None else {threshold}
    if not series:
        return None
    rules = [Rule(value, 0, value, 1, f"in use: {number(value)}") for value in sorted(used)]
    alt = "Mean Dice against the threshold of the probability: " + "; ".join(spoken) + "."
    return Chart("Dice by threshold", alt, Axis("threshold", 0.0, 1.0, UNIT), Axis("mean Dice", 0.0, 1.0, UNIT), series, rules)


def _line(curve: Sequence[float] | np.ndarray) -> list[Point]:
    return [Point(place / len(curve), float(value)) for place, value in enumerate(curve)]


def _classes(runs: Sequence[RunReport]) -> Iterator[tuple[str, RunReport, int]]:
    """Of runs with probabilities: what to call a class, the run and the place of the class."""
    for run in runs:
        labels = run.probabilities.classes if run.probabilities else ()
        for k, label in enumerate(labels):
            yield ", ".join(p for p in (run.name if len(runs) > 1 else "", label if len(labels) > 1 else "") if p), run, k


def by_size(runs: Sequence[RunReport], links: Links) -> Chart | None:
    """Dice against the size of the truth, of runs with one unit; cases without truth have none. None where no size is known."""
    series = []
    for place, (run, label, name) in enumerate(_strips(runs)):
        scores = [score for score in run.scores if label in (None, score.label) and score.truth > 0]
        series.append(Series(name, place, [_point(s.truth, s.metrics["dice"], run, s, links) for s in scores]))
    sizes = [point.x for one in series for point in one.points]
    if not sizes:
        return None
    unit = runs[0].size_unit
    middle = float(np.median(sizes))
    parts = [[p.y for s in series for p in s.points if (p.x < middle) == small] for small in (True, False)]
    means = [f"{np.mean(part):.3f}" if part else "–" for part in parts]
    alt = f"Mean Dice is {means[0]} of sizes below the median of {_short(middle)} {unit} and {means[1]} from there on."
    return Chart("Dice by size of the truth", alt, axis(f"size of the truth, {unit}", sizes, log=True), _DICE, series)


def agreement(run: RunReport, links: Links) -> Chart | None:
    """Bland and Altman: difference of the two sizes against their mean, with bias and limits of agreement; None without sizes.

    Cases where nothing was there and nothing was found say nothing on sizes and are left out.
    """
    scores = [score for score in run.scores if score.status != BOTH_EMPTY and not math.isnan(score.truth)]
    if not scores:
        return None
    gaps = np.array([score.predicted - score.truth for score in scores])
    bias, spread = float(gaps.mean()), float(gaps.std(ddof=1)) if len(gaps) > 1 else 0.0
    low, high = bias - 1.96 * spread, bias + 1.96 * spread
    series = []
    for place, label in enumerate(run.summary["classes"]):
        some = [score for score in scores if score.label == label]
        points = [_point((s.truth + s.predicted) / 2, s.predicted - s.truth, run, s, links) for s in some]
        series.append(Series(label if run.classed else "", place, points))
    unit = run.size_unit
    x = axis(f"mean of truth and prediction, {unit}", [0.0, *(point.x for one in series for point in one.points)], ticks=4)
    y = axis(f"prediction − truth, {unit}", [*gaps, low, high])
    lines = {"+1.96 SD": high, "mean": bias, "−1.96 SD": low}
    rules = [Rule(x.low, value, x.high, value, f"{name} {_short(value)}") for name, value in lines.items()]
    alt = f"Sizes agree with a bias of {_short(bias)} {unit}; 95 % limits of agreement {_short(low)} to {_short(high)} {unit}."
    return Chart("Agreement of sizes" + (f": {run.name}" if run.name else ""), alt, x, y, series, rules)


def _short(value: float) -> str:
    return f"{float(f'{value:.3g}'):,.10g}".replace("-", "−")


def training(runs: Sequence[RunReport]) -> list[Chart]:
    """Loss and validation Dice over the epochs, of runs that recorded them."""
    loss = _curves(runs, "Loss", {"train_loss": "training", "val_loss": "validation"})
    dice = _curves(runs, "Validation Dice", {"val_dice": ""}, _DICE)
    return [chart for chart in (loss, dice) if chart]


def _curves(runs: Sequence[RunReport], title: str, columns: Mapping[str, str], y: Axis | None = None) -> Chart | None:
    series, spoken = [], []
    for place, run in enumerate(runs):
        for column, what in columns.items():
            points = [
                Point(row.get("epoch", i + 1), row[column], f"epoch {row.get('epoch', i + 1):g}: {row[column]:.4g}")
                for i, row in enumerate(run.history)
                if math.isfinite(row.get(column, math.nan))
            ]
            if points:
                name = ", ".join(part for part in (run.name if len(runs) > 1 else "", what) if part)
                dashed = column == "val_loss"
                series.append(Series(name, place, points, line=True, dashed=dashed, marks=len(points) < 2))
                spoken.append(f"{name} from {points[0].y:.3g} to {points[-1].y:.3g}".strip())
    if not series:
        return None
    seen = [point for one in series for point in one.points]
    x = axis("epoch", [point.x for point in seen])
    y = y or axis("loss", [0.0, *(point.y for point in seen)])
    return Chart(title, f"{title} over the epochs: {'; '.join(spoken)}.", x, y, series)


def forest(paired: Paired) -> Chart | None:
    """Every difference to the reference with its interval; None where there are none."""
    rows = paired.differences
    if not rows:
        return None
    ends = [(row.low, row.high) if row.known else (row.mean, row.mean) for row in rows]
    x = axis(f"difference in {paired.metric}", [0.0, *(value for pair in ends for value in pair)])
    height = float(len(rows))
    intervals = [f", 95 % interval {signed(row.low)} to {signed(row.high)}" if row.known else "" for row in rows]
    spoken = [f"{row.name} {signed(row.mean)}{interval}" for row, interval in zip(rows, intervals, strict=True)]
    bars = [
        Bar(low, row.mean, high, height - i - 0.7, 0, text)
        for i, (row, (low, high), text) in enumerate(zip(rows, ends, spoken, strict=True))
    ]
    labels = [Label(x.low, height - i - 0.3, row.name) for i, row in enumerate(rows)]
    better = "below" if paired.lower_is_better else "above"
    title = f"Paired differences; {better} 0 is better than {paired.reference}"
    zero, tall = Rule(0, 0, 0, height), 44 + 44 * len(rows)
    return Chart(title, ". ".join(spoken) + ".", x, Axis("", 0.0, height), rules=[zero], bars=bars, labels=labels, height=tall)
