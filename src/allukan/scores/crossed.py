"""The mean of differences over trainings and cases, where both are a sample.

Every seed s trains both models anew and tests them on cases of the groups g (patients, sequences). Their differences are

    d_sg = mean + a_s + b_g + e_sg

with a training's share a_s, a group's share b_g that all trainings have in common, and the rest. Let m_s be the mean over the
cases of seed s, and S the number of seeds. The variance of the mean of the m_s is

    var(m_s) / S + var(b) · overlap

The overlap of two seeds is (groups of both) / (groups of one · groups of the other): 1/G if all test the same. The first term is
the textbook's, with S - 1 degrees of freedom; it falls with every seed. The second is what all seeds share: the mean product of
two seeds' residuals of a group, which a and e cannot enter. For a full table both together are (MS_seeds + MS_groups - MS_rest) /
(S · G) of the two-way analysis of variance with random effects. What the residuals within a seed do not explain of var(m_s) is
var(a): that comes from the trainings, all other from the cases. An estimate below 0 is 0. Interval and p are Student's, with the
degrees of freedom of Satterthwaite (1946).
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from allukan.scores.difference import Components, CrossedDifference, Part

Floats = NDArray[np.float64]


def crossed_difference(
    differences: ArrayLike, groups: Sequence[Hashable] | None = None, *, confidence: float = 0.95
) -> CrossedDifference:
    """The mean of differences over trainings and cases, and how well it is known.

    Args:
        differences: ``(S, N)``, a row a seed, a column a case; nan where a seed did not test a case.
        groups: of every case; without them every case is one. Cases of one group are no independent ones.
        confidence: of the interval.

    Raises:
        ValueError: for another shape, a seed without a case, an infinite value.

    >>> found = crossed_difference([[0.01, 0.02, 0.03, 0.02], [0.03, 0.05, 0.05, 0.03], [0.02, 0.02, 0.04, 0.04]])
    >>> round(found.mean, 3), round(found.se_trainings, 4), round(found.se_cases, 4)
    (0.03, 0.0053, 0.0041)
    """
    sums, counts = _by_group(differences, groups)
    seeds, tested = len(sums), counts > 0
    means = sums.sum(1) / counts.sum(1)
    sizes = tested.sum(1).astype(float)  # groups of every seed
    if sizes.min() < 2:
        return CrossedDifference(float(means.mean()), (Part(math.nan, math.nan, math.nan, seeds, math.nan),), None, confidence)
    residuals = (sums - counts * means[:, None]) * (sizes / counts.sum(1))[:, None]  # a mean of ratios, linear in the groups
    within = float((residuals**2).sum() / (sizes - 1).sum())
    if seeds == 1:
        return CrossedDifference(float(means[0]), (Part(math.nan, 0.0, within / sizes[0], 1, sizes[0] - 1),), None, confidence)
    shared, overlap = _shared(residuals, tested, sizes)
    shared = min(max(shared, 0.0), within)
    of_cases = within * float((1 / sizes).mean()) - shared * overlap  # of var(m_s), without a training's own share
    of_seed = max(0.0, float(means.var(ddof=1)) - of_cases)
    several = int((tested.sum(0) > 1).sum())  # groups that more than one seed tested
    part = Part(of_seed / seeds, of_cases / seeds, shared * overlap, seeds, max(1, several - 1))
    components = Components(*(math.sqrt(v) for v in (of_seed, shared, within - shared)))
    return CrossedDifference(float(means.mean()), (part,), components, confidence)


def _by_group(differences: ArrayLike, groups: Sequence[Hashable] | None) -> tuple[Floats, Floats]:
    """Sums and numbers of the differences ``(S, G)`` of every seed in every group that a seed tested."""
    data = np.asarray(differences, dtype=float)
    tested = ~np.isnan(data)
    if data.ndim != 2 or not data.size or np.isinf(data).any() or not tested.any(1).all():
        raise ValueError("differences must be (seeds, cases), finite or nan, with at least one tested case a seed")
    names = range(data.shape[1]) if groups is None else groups
    if len(names) != data.shape[1]:
        raise ValueError(f"{len(names)} groups for {data.shape[1]} cases")
    numbers = {name: number for number, name in enumerate(dict.fromkeys(names))}
    belongs = np.zeros((data.shape[1], len(numbers)))
    belongs[np.arange(data.shape[1]), [numbers[name] for name in names]] = 1
    sums, counts = np.nan_to_num(data) @ belongs, tested @ belongs
    seen = counts.any(0)
    return sums[:, seen], counts[:, seen]


def _shared(residuals: Floats, tested: NDArray[np.bool_], sizes: Floats) -> tuple[float, float]:
    """Covariance of two seeds in one group, unbiased, and their overlap."""
    both = tested.astype(float) @ tested.T
    share = both / np.outer(sizes, sizes)
    others = ~np.eye(len(sizes), dtype=bool)
    centred = both * (1 - 1 / sizes[:, None] - 1 / sizes + share)  # what subtracting the means of the seeds leaves of them
    overlap = float(share[others].mean())
    return (float((residuals @ residuals.T)[others].sum() / centred[others].sum()) if overlap else 0.0), overlap


def crossed_bootstrap(
    differences: ArrayLike,
    groups: Sequence[Hashable] | None = None,
    *,
    confidence: float = 0.95,
    resamples: int = 5000,
    seed: int = 0,
) -> tuple[float, float]:
    """Percentile interval of the same mean, seeds and groups drawn with replacement: Owen's pigeonhole bootstrap (2007).

    It makes no use of a normal distribution and is **too narrow for few seeds**: of three it draws one seed alone in every ninth
    resample, and no correction is in it. Below twenty seeds take ``crossed_difference``. Arguments as there.

    >>> crossed_bootstrap(np.full((20, 5), 0.25))
    (0.25, 0.25)
    """
    sums, counts = _by_group(differences, groups)
    rng = np.random.default_rng(seed)
    drawn = [rng.multinomial(n, np.full(n, 1 / n), resamples).astype(float) for n in sums.shape]
    with np.errstate(invalid="ignore"):
        means = np.where((n := drawn[1] @ counts.T) > 0, drawn[1] @ sums.T / n, 0.0)  # a seed of which no group was drawn
    weights = drawn[0] * (n > 0)
    found = (weights * means).sum(1) / np.maximum(weights.sum(1), 1)
    low, high = np.quantile(found[weights.sum(1) > 0], [0.5 - confidence / 2, 0.5 + confidence / 2])
    return float(low), float(high)
