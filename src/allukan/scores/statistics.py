"""Means with bootstrap intervals, over cases or over groups of cases."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import DegenerateDataWarning, bootstrap, wilcoxon

from allukan.scores.metrics import AREAS, METRICS, group_dice

Floats = NDArray[np.float64]


def bootstrap_interval(
    values: ArrayLike,
    groups: Sequence[Hashable] | None = None,
    *,
    confidence: float = 0.95,
    resamples: int = 5000,
    seed: int = 0,
) -> tuple[float, float]:
    """BCa interval of the mean (percentile interval where BCa is degenerate); the same arguments give the same interval.

    With ``groups`` whole groups are drawn: images of one patient are no independent cases. One value, one group or constant
    values give ``(mean, mean)``, which says nothing on the uncertainty. ``ValueError`` for no values or one that is not finite.

    >>> bootstrap_interval([0.5, 0.5, 0.5])
    (0.5, 0.5)
    """
    data = _finite(values)
    sums, counts = _totals(data, groups)
    if len(sums) == 1 or np.ptp(sums / counts) == 0:
        return float(data.mean()), float(data.mean())
    with warnings.catch_warnings(), np.errstate(divide="ignore", invalid="ignore"):
        warnings.simplefilter("ignore", DegenerateDataWarning)
        found = bootstrap(
            (sums, counts),
            _ratio,
            paired=True,
            vectorized=True,
            n_resamples=resamples,
            batch=max(1, 1_000_000 // len(sums)),  # bounds memory for thousands of cases
            confidence_level=confidence,
            method="BCa",
            rng=np.random.default_rng(seed),
        )
    low, high = found.confidence_interval
    if not np.isfinite([low, high]).all():
        tail = 50 * (1 - confidence)
        low, high = np.percentile(found.bootstrap_distribution, [tail, 100 - tail])
    return float(low), float(high)


def _finite(values: ArrayLike) -> Floats:
    data = np.asarray(values, dtype=float)
    if data.ndim != 1 or data.size == 0 or not np.isfinite(data).all():
        raise ValueError("an interval needs at least one value, and finite values only, in one dimension")
    return data


def _totals(data: Floats, groups: Sequence[Hashable] | None) -> tuple[Floats, Floats]:
    """Sum and number of the values of every group; without groups every value is one."""
    if groups is None:
        return data, np.ones(len(data))
    if len(groups) != len(data):
        raise ValueError(f"{len(groups)} groups for {len(data)} values")
    numbers = {group: number for number, group in enumerate(dict.fromkeys(groups))}
    index = [numbers[group] for group in groups]
    return np.bincount(index, weights=data).astype(float), np.bincount(index).astype(float)


def _ratio(sums: Floats, counts: Floats, axis: int) -> Floats:
    ratio: Floats = sums.sum(axis=axis) / counts.sum(axis=axis)
    return ratio


def summarise(cases: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Mean, median and 95 % interval of every metric, over all rows ("overall") and in every class ("classes").

    ``cases`` are rows as ``case_metrics`` makes them: the metrics and ``status``, and where known ``class``, and ``group``
    (patient, sequence) or else ``id``, by which the intervals draw; without these every row is a case of its own. Rows with the
    areas of ``case_metrics`` have ``group_dice`` in addition, over groups and classes. ``ValueError`` for no rows.
    """
    rows = [{"class": "", "group": row.get("id", number), **row} for number, row in enumerate(cases)]
    classes = list(dict.fromkeys(row["class"] for row in rows))
    by_class = {name: _figures([row for row in rows if row["class"] == name]) for name in classes}
    return {"overall": _figures(rows), "classes": by_class}


def _figures(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    groups = [row["group"] for row in rows]
    figures: dict[str, Any] = {"cases": len(rows), "groups": len(set(groups)), "status": dict(Counter(r["status"] for r in rows))}
    figures |= {metric: _figure([float(row[metric]) for row in rows], groups) for metric in METRICS}
    if all(area in row for row in rows for area in AREAS):
        pooled = group_dice(rows)
        figures["group_dice"] = _figure(list(pooled.values()), [group for group, _ in pooled])
    return figures


def _figure(values: Sequence[float], groups: Sequence[Hashable]) -> dict[str, float]:
    low, high = bootstrap_interval(values, groups)
    return {"mean": float(np.mean(values)), "median": float(np.median(values)), "low": low, "high": high}


def paired_difference(a: ArrayLike, b: ArrayLike, groups: Sequence[Hashable] | None = None) -> dict[str, float]:
    """Mean of ``a - b`` over the same cases, its 95 % interval, and the p-value of ``signed_rank``.

    With ``groups`` the interval draws whole groups. All this is about other cases of the models at hand; for what other trainings
    would give see ``crossed_difference``. ``ValueError`` for a different number of values.

    >>> paired_difference([0.5, 0.7], [0.5, 0.7])
    {'mean': 0.0, 'low': 0.0, 'high': 0.0, 'p': 1.0}
    """
    first, second = _finite(a), _finite(b)
    if first.shape != second.shape:
        raise ValueError(f"{len(first)} values cannot be paired with {len(second)}")
    difference = first - second
    low, high = bootstrap_interval(difference, groups)
    return {"mean": float(difference.mean()), "low": low, "high": high, "p": signed_rank(difference, groups)}


def signed_rank(differences: ArrayLike, groups: Sequence[Hashable] | None = None) -> float:
    """The p-value of Wilcoxon's signed-rank test on the mean difference of every group; 1 where all are 0."""
    sums, counts = _totals(_finite(differences), groups)
    return float(wilcoxon(sums / counts).pvalue) if np.any(sums) else 1.0


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down adjustment of several p-values, in their order: all of them together are held to one error rate.

    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    adjusted, highest = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = highest
    return adjusted
