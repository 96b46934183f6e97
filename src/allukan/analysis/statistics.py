"""Means with bootstrap intervals, over cases or over groups of cases."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import wilcoxon

from allukan.analysis.metrics import METRICS


def bootstrap_interval(
    values: ArrayLike,
    groups: Sequence[Hashable] | None = None,
    *,
    confidence: float = 0.95,
    resamples: int = 5000,
    seed: int = 0,
) -> tuple[float, float]:
    """Percentile interval of the mean. With ``groups`` whole groups are drawn: images of one patient are no independent cases.

    The same arguments give the same interval. ``ValueError`` for no values.

    >>> bootstrap_interval([0.5, 0.5, 0.5])
    (0.5, 0.5)
    """
    data = np.asarray(values, dtype=float)
    if data.size == 0:
        raise ValueError("an interval needs at least one value")
    _, index = np.unique([str(g) for g in groups] if groups is not None else np.arange(len(data)), return_inverse=True)
    sums, counts = np.bincount(index, weights=data).astype(float), np.bincount(index).astype(float)
    generator = np.random.default_rng(seed)
    means = _resampled_means(sums, counts, resamples, generator)
    tail = 100 * (1 - confidence) / 2
    low, high = np.percentile(means, [tail, 100 - tail])
    return float(low), float(high)


def _resampled_means(
    sums: NDArray[np.float64], counts: NDArray[np.float64], resamples: int, generator: np.random.Generator
) -> NDArray[np.float64]:
    draws = generator.multinomial(len(sums), np.full(len(sums), 1 / len(sums)), size=resamples)
    means: NDArray[np.float64] = (draws @ sums) / (draws @ counts)
    return means


def summarise(cases: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Mean, median and 95 % interval of every metric, over all rows and a class.

    ``cases`` are rows with ``class``, ``group``, the metrics and ``status``, as ``case_metrics`` makes them.
    """
    classes = list(dict.fromkeys(row["class"] for row in cases))
    by_class = {name: _figures([row for row in cases if row["class"] == name]) for name in classes}
    return {"overall": _figures(cases), "classes": by_class}


def _figures(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    groups = [row["group"] for row in rows]
    figures: dict[str, Any] = {"cases": len(rows), "groups": len(set(groups)), "status": dict(Counter(r["status"] for r in rows))}
    for metric in METRICS:
        values = [float(row[metric]) for row in rows]
        low, high = bootstrap_interval(values, groups)
        figures[metric] = {"mean": float(np.mean(values)), "median": float(np.median(values)), "low": low, "high": high}
    return figures


def paired_difference(a: ArrayLike, b: ArrayLike, groups: Sequence[Hashable] | None = None) -> dict[str, float]:
    """Mean of ``a - b`` over the same cases, its 95 % interval, and the p-value of Wilcoxon's signed-rank test."""
    difference = np.asarray(a, dtype=float) - np.asarray(b, dtype=float)
    low, high = bootstrap_interval(difference, groups)
    p = float(wilcoxon(difference).pvalue) if np.any(difference) else 1.0
    return {"mean": float(difference.mean()), "low": low, "high": high, "p": p}
