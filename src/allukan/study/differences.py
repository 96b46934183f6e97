"""Models paired with a reference: seed by seed and image by image, on every data set and over all of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from allukan.report import DISTANCES
from allukan.scores import CrossedDifference, crossed_difference, holm, mean_difference, signed_rank
from allukan.study.results import GROUP_DICE, SCORES, Result, check_same_images, sections
from allukan.study.tables import Interval, Table

ACROSS = " → "  # trained on one data set, tested on another


@dataclass(frozen=True)
class Difference:
    """Of one model against the reference, ``model - reference``.

    Attributes:
        data: data set, or how many of them it is the mean of.
        protocol: of the trainings.
        model: name.
        images: that were paired.
        groups: independent ones among them.
        crossed: mean, standard errors, interval and p over trainings and images.
        images_alone: p of Wilcoxon's signed-rank test between groups, for these trainings; nan over several data sets.
        p_holm: p of ``crossed``, corrected for the number of comparisons.
    """

    data: str
    protocol: str
    model: str
    images: int
    groups: int
    crossed: CrossedDifference
    images_alone: float
    p_holm: float = math.nan


def find_differences(results: Sequence[Result], reference: str, metric: str) -> list[Difference]:
    """Of every model on every data set by every protocol, then its mean over all data sets of a protocol, if it is on all."""
    found = []
    for (data, protocol), models in sections(results).items():
        for model in models:
            if model != reference:
                pairs = _pairs(models[model], models.get(reference, []))
                found += [_difference(data, protocol, model, pairs, metric)] if pairs else []
    found += _over_all_sets(found)
    tested = [number for number, difference in enumerate(found) if not math.isnan(difference.crossed.p)]
    for number, p in zip(tested, holm([found[number].crossed.p for number in tested]), strict=True):
        found[number] = replace(found[number], p_holm=p)
    return found


def _pairs(results: Sequence[Result], references: Sequence[Result]) -> list[tuple[Result, Result]]:
    """Those of the same seed, fold by fold where both have the same folds."""
    by_seed = {result.seed: result for result in references}
    pairs = [(result, by_seed[result.seed]) for result in results if result.seed in by_seed]
    for a, b in pairs:
        check_same_images(b, a)
    return [trainings for pair in pairs for trainings in _folds(*pair)]


def _folds(a: Result, b: Result) -> list[tuple[Result, Result]]:
    """Of folds with other images nothing is known but their sum."""
    same = [fold.groups.keys() for fold in a.folds] == [fold.groups.keys() for fold in b.folds]
    return list(zip(a.folds, b.folds, strict=True)) if a.folds and same else [(a, b)]


def _difference(data: str, protocol: str, model: str, pairs: Sequence[tuple[Result, Result]], metric: str) -> Difference:
    group_of = {image: group for _, b in pairs for image, group in b.groups.items()}
    rows = [{name: score - b.scores[metric][name] for name, score in a.scores[metric].items()} for a, b in pairs]
    cases = list(dict.fromkeys(name for row in rows for name in row))
    table = np.array([[row.get(case, math.nan) for case in cases] for row in rows])
    groups = cases if metric == GROUP_DICE else [group_of[case] for case in cases]
    crossed = crossed_difference(table, groups)
    alone = signed_rank(np.nanmean(table, axis=0), groups)
    return Difference(data, protocol, model, len(group_of), len(set(groups)), crossed, alone)


def _over_all_sets(differences: Sequence[Difference]) -> list[Difference]:
    found: list[Difference] = []
    own = [difference for difference in differences if ACROSS not in difference.data]
    for protocol in dict.fromkeys(difference.protocol for difference in own):
        here = [difference for difference in own if difference.protocol == protocol]
        sets = len({difference.data for difference in here})
        for model in dict.fromkeys(difference.model for difference in here):
            parts = [difference for difference in here if difference.model == model]
            if len(parts) == sets > 1:
                images, groups = (sum(counts) for counts in zip(*((part.images, part.groups) for part in parts), strict=True))
                crossed = mean_difference([part.crossed for part in parts])
                found.append(Difference(f"all {sets} sets", protocol, model, images, groups, crossed, math.nan))
    return found


def differences_table(differences: Sequence[Difference], reference: str, metric: str, detect: float) -> Table:
    """A line a difference; "trainings needed" are those that show a difference of ``detect``."""
    heading = SCORES[metric]
    rows = [
        [
            *(d.data, d.protocol, d.model, d.crossed.seeds, d.images, d.groups),
            Interval(d.crossed.mean, *d.crossed.interval),
            *(d.crossed.se_trainings, d.crossed.se_cases, d.crossed.seeds_needed(detect)),
            *(d.crossed.p, d.p_holm, d.images_alone),
        ]
        for d in differences
    ]
    better = "below" if metric in DISTANCES else "above"
    tests = sum(not math.isnan(d.p_holm) for d in differences)
    note = (
        f"Paired difference in {heading}, {better} 0 is better than {reference}: mean over trainings [95 % interval over "
        "trainings and images], standard errors from the trainings and from the images alone, trainings that would show a "
        f"difference of {detect:g} with 80 % power (∞: not with these images), p over trainings and images, and by Holm over all "
        f"{tests} of them. Images alone: Wilcoxon's signed-rank test for these trainings, which knows nothing of others."
    )
    if any(d.crossed.seeds == 1 for d in differences):
        note += " Of one training the interval is over images alone: nothing is known of other trainings, and no p is given."
    errors = (f"± trainings, {heading}", f"± images, {heading}")
    columns = ("trainings", "images", "groups", f"Δ {heading}", *errors, "trainings needed", "p", "p (Holm)", "images alone")
    return Table(f"Against {reference}", note, ("data", "protocol", "model", *columns), rows)
