"""Folds of one seed as what they are together: trainings that have tested every image once."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from allukan.files import read_json
from allukan.yaml_files import read_yaml

if TYPE_CHECKING:
    from allukan.study.results import Result

GROUP_DICE = "group_dice"  # the one score that goes by groups
_log = logging.getLogger("allukan")


def join_folds(results: Sequence[Result]) -> list[Result]:
    """Those of one data set, protocol, model and seed as one result, with them as its ``folds``.

    Where some are not finished, the folds count that every model has of that seed, so that all are tested on the same images;
    the log says how many. An image that several folds were tested on, one of another data set, has the mean of its scores.
    """
    joined: list[Result] = []
    tested: dict[tuple[str, str, int], dict[str, dict[int, Result]]] = {}
    for result in results:
        _, fold, number = result.folder.name.partition("-fold-")
        if not fold:
            joined.append(result)
            continue
        models = tested.setdefault((result.data, result.protocol, result.seed), {})
        models.setdefault(result.model, {})[int(number)] = result
    for (data, protocol, seed), models in tested.items():
        first, *others = models.values()
        common = sorted(set(first).intersection(*others))
        wanted = read_yaml(next(iter(first.values())).folder / "config.yaml")["folds"]
        if len(common) < wanted:
            _log.warning(f"{data}, {protocol}, seed {seed}: {len(common)} of {wanted} folds count, those that every model has.")
        joined += [_join([folds[number] for number in common]) for folds in models.values() if common]
    return joined


def _join(folds: Sequence[Result]) -> Result:
    scores = {}
    for metric in folds[0].scores:
        found: dict[str, list[float]] = {}
        for fold in folds:
            for name, score in fold.scores[metric].items():
                found.setdefault(name, []).append(score)
        scores[metric] = {name: float(np.mean(values)) for name, values in found.items()}
    groups = {name: group for fold in folds for name, group in fold.groups.items()}
    truths = {name: truth for fold in folds for name, truth in fold.truths.items()}
    minutes = float(np.mean([fold.minutes for fold in folds]))
    return replace(folds[0], scores=scores, groups=groups, truths=truths, minutes=minutes, folds=tuple(folds))


def part_folds(result: Result) -> Result:
    """The same with its ``folds``, where its folder is of a training in folds: what each of them was tested on."""
    tests = [set(read_json(path)["test"]) for path in sorted(result.folder.glob("fold-*/splits.json"))]
    if set().union(*tests) != result.groups.keys():
        return result
    return replace(result, folds=tuple(_part(result, test) for test in tests))


def _part(result: Result, test: set[str]) -> Result:
    groups = {name: group for name, group in result.groups.items() if name in test}
    truths = {name: truth for name, truth in result.truths.items() if name in test}
    scores = {}
    for metric, found in result.scores.items():
        kept = set(groups.values()) if metric == GROUP_DICE else set(groups)  # which goes by the names of groups
        scores[metric] = {name: score for name, score in found.items() if name in kept}
    return replace(result, scores=scores, groups=groups, truths=truths)
