"""Cases of all runs side by side, failures first."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from allukan.report.pictures import Picture
from allukan.report.runs import RunReport, Score

BOTH_EMPTY = "both_empty"


class Shown(NamedTuple):
    """A case by one run: its number, the run, its scores by class, and a picture where there was room."""

    run: RunReport
    scores: tuple[Score, ...]
    picture: Picture | None

    @property
    def dice(self) -> float:
        """Mean over classes."""
        return float(np.mean([score.metrics["dice"] for score in self.scores]))


class Case(NamedTuple):
    """One image of one data set by all runs that were tested on it; ``anchor`` is its place in the page."""

    anchor: str
    name: str
    shown: tuple[Shown, ...]

    @property
    def pictured(self) -> bool:
        """Whether it can be looked at."""
        return any(one.picture for one in self.shown)

    @property
    def empty(self) -> bool:
        """Whether nothing was there and nothing was found by anybody."""
        return all(score.status == BOTH_EMPTY for one in self.shown for score in one.scores)


def line_up(runs: Sequence[RunReport]) -> list[Case]:
    """All cases by their Dice, averaged over classes and runs, the worst first; cases of several data sets may share a name."""
    found: dict[tuple[str, str], list[Shown]] = {}
    for run in runs:
        for name, scores in by_case(run.scores).items():
            found.setdefault((run.place, name), []).append(Shown(run, scores, run.pictures.get(name)))
    ranked = sorted(found.items(), key=lambda item: (np.mean([one.dice for one in item[1]]), item[0]))
    return [Case(f"case-{number}", name, tuple(shown)) for number, ((_, name), shown) in enumerate(ranked)]


def by_case(scores: Sequence[Score]) -> dict[str, tuple[Score, ...]]:
    """Rows of ``cases.csv`` by case, in their order."""
    found: dict[str, list[Score]] = {}
    for score in scores:
        found.setdefault(score.case, []).append(score)
    return {name: tuple(rows) for name, rows in found.items()}
