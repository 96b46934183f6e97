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
    """What one data set adds to the variance of a mean difference, where it is known (else nan).

    Attributes:
        trainings: a training's own share, over the number of seeds.
        drawn: of the cases, what more seeds would take away: what each training makes of them, and those that it drew for itself.
        shared: of the cases, what all trainings have in common.
        seeds: number of trainings; ``trainings + drawn`` has one degree of freedom less.
        freedom: degrees of freedom of ``shared``.
    """

    trainings: float
    drawn: float
    shared: float
    seeds: int
    freedom: float


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
        """Standard error from the trainings alone, as if they had been tested on endlessly many cases; nan for one seed."""
        return math.sqrt(sum(part.trainings for part in self.parts)) / len(self.parts)

    @property
    def se_cases(self) -> float:
        """Standard error from the cases alone, for the trainings at hand."""
        return math.sqrt(sum(part.drawn + part.shared for part in self.parts)) / len(self.parts)

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

        >>> found = CrossedDifference(0.01, (Part(trainings=1e-4, drawn=0, shared=1e-6, seeds=3, freedom=99),))
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
        more = [
            part._replace(trainings=part.trainings * part.seeds / seeds, drawn=part.drawn * part.seeds / seeds, seeds=seeds)
            for part in self.parts
        ]
        se, freedom = CrossedDifference(difference, tuple(more)).se, _freedom(more)
        return float(stats.nct.sf(stats.t.ppf(1 - level / 2, freedom), freedom, abs(difference) / se)) if se else 1.0


def _freedom(parts: Sequence[Part]) -> float:
    """Satterthwaite's degrees of freedom of a sum of variances; what one seed does not know is left out."""
    known: list[tuple[float, float]] = [(part.trainings + part.drawn, part.seeds - 1) for part in parts if part.seeds > 1]
    known += [(part.shared, part.freedom) for part in parts]
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
