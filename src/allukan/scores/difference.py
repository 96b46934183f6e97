"""A mean difference over trainings and cases: standard errors, interval, p, and how many seeds show one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy import stats

_MOST_SEEDS = 10_000


class Part(NamedTuple):
    """What one data set adds to the variance of a mean difference: through its trainings and through its cases."""

    trainings: float  # nan for one seed
    seeds: int
    cases: float  # nan for one group
    freedom: float  # degrees of freedom of the cases' part


class Components(NamedTuple):
    """Standard deviations of the two-way random-effects model, 0 where the data show none: of seeds, of groups, of the rest."""

    seed: float
    group: float
    rest: float


@dataclass(frozen=True)
class CrossedDifference:
    """A mean difference over trainings and cases.

    Attributes:
        mean: over seeds of the mean over the cases of a seed.
        parts: what its data set, or every one of several, adds to its variance.
        components: of one data set; None for several.
        confidence: of the interval.

    With one seed the interval is about other cases of this one training, and ``se`` and ``p`` are nan: nothing is known of other
    trainings. With one group all of them are nan.
    """

    mean: float
    parts: tuple[Part, ...]
    components: Components | None = None
    confidence: float = 0.95

    @property
    def seeds(self) -> int:
        """Of the data set that has the fewest."""
        return min(part.seeds for part in self.parts)

    @property
    def se_trainings(self) -> float:
        """Standard error from the trainings alone; nan for one seed."""
        return math.sqrt(sum(part.trainings for part in self.parts)) / len(self.parts)

    @property
    def se_cases(self) -> float:
        """Standard error from the cases alone: what would be left with endlessly many seeds."""
        return math.sqrt(sum(part.cases for part in self.parts)) / len(self.parts)

    @property
    def se(self) -> float:
        """Standard error in all; nan for one seed."""
        return math.hypot(self.se_trainings, self.se_cases)

    @property
    def interval(self) -> tuple[float, float]:
        """About trainings and cases; with one seed about the cases alone."""
        se = self.se_cases if self.seeds == 1 else self.se
        half = se and se * float(stats.t.ppf(0.5 + self.confidence / 2, _freedom(self.parts)))
        return self.mean - half, self.mean + half

    @property
    def p(self) -> float:
        """Two-sided, of no difference over all trainings and cases; nan for one seed."""
        if self.se == 0:
            return 1.0 if self.mean == 0 else 0.0
        return float(2 * stats.t.sf(abs(self.mean) / self.se, _freedom(self.parts)))

    def seeds_needed(self, difference: float, *, power: float = 0.8, level: float = 0.05) -> float:
        """How many seeds, two at least, show a true ``difference`` with this power; inf where the cases forbid it.

        A whole number as a float; nan for one seed. It is as uncertain as the standard error from the trainings, of which it is
        made: with three seeds it may be a quarter of what is needed, or many times as much.

        >>> found = CrossedDifference(0.01, (Part(trainings=1e-4, seeds=3, cases=1e-6, freedom=99),))
        >>> found.seeds_needed(0.03), found.seeds_needed(0.01), found.seeds_needed(0.001)
        (5.0, 28.0, inf)
        """
        if math.isnan(self.se):
            return math.nan
        low, high = 1, _MOST_SEEDS
        if self._power(high, difference, level) < power:
            return math.inf
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if self._power(middle, difference, level) >= power else (middle, high)
        return float(high)

    def _power(self, seeds: int, difference: float, level: float) -> float:
        parts = [part._replace(trainings=part.trainings * part.seeds / seeds, seeds=seeds) for part in self.parts]
        se = math.sqrt(sum(part.trainings + part.cases for part in parts)) / len(parts)
        if se == 0:
            return 1.0
        freedom = _freedom(parts)
        return float(stats.nct.sf(stats.t.ppf(1 - level / 2, freedom), freedom, abs(difference) / se))


def _freedom(parts: Sequence[Part]) -> float:
    """Satterthwaite's degrees of freedom of a sum of variances; one seed has none and is left out."""
    known: list[tuple[float, float]] = [(part.trainings, part.seeds - 1) for part in parts if part.seeds > 1]
    known += [(part.cases, part.freedom) for part in parts]
    total = sum(variance for variance, _ in known)
    return total**2 / sum(variance**2 / freedom for variance, freedom in known if variance) if total else math.inf


def mean_difference(found: Sequence[CrossedDifference]) -> CrossedDifference:
    """The mean of the differences on several data sets, whose trainings and cases have nothing to do with each other.

    ``ValueError`` for none, or for several confidences.
    """
    if len({one.confidence for one in found}) != 1:
        raise ValueError("a mean needs at least one difference, and one confidence for all of them")
    if any(len(one.parts) != 1 for one in found):
        raise ValueError("a mean is taken of differences on one data set each")
    parts = tuple(part for one in found for part in one.parts)
    return CrossedDifference(float(np.mean([one.mean for one in found])), parts, None, found[0].confidence)
