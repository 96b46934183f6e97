"""What the page says of one or several runs: plain values, texts and arrays, which others gather."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from allukan.report.pictures import Picture

HEADINGS = {"dice": "Dice", "iou": "IoU", "hd95": "HD95", "surface_dice": "surface Dice"}  # of the metrics, for people
DISTANCES = ("hd95",)  # those with a unit, of which less is better


class Score(NamedTuple):
    """One class of one case, a row of ``cases.csv``; sizes are NaN where an older version wrote none."""

    case: str
    label: str
    status: str
    metrics: Mapping[str, float]
    truth: float
    predicted: float


class Probabilities(NamedTuple):
    """What the probabilities of K classes are worth.

    Attributes:
        classes: names.
        said: mean probability of the pixels in each bin ``(K, B)``, NaN where there are none.
        share: of these pixels that belong to the class, likewise.
        ece: expected calibration error ``(K,)``.
        dice: mean Dice at the thresholds 0, 0.01 … 0.99 ``(K, 100)``.
        threshold: that the model decides by; None where the most probable class wins.
    """

    classes: tuple[str, ...]
    said: NDArray[np.float64]
    share: NDArray[np.float64]
    ece: NDArray[np.float64]
    dice: NDArray[np.float64]
    threshold: float | None


class Table(NamedTuple):
    """A table of a comparison, in words."""

    title: str
    note: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]


class Difference(NamedTuple):
    """Of one model against the reference: mean with its 95 % interval, and p corrected for all of them; NaN without one."""

    name: str
    mean: float
    low: float
    high: float
    p: float

    @property
    def known(self) -> bool:
        """Whether there is an interval: images of one group alone give none."""
        return not math.isnan(self.low)


@dataclass(frozen=True)
class Paired:
    """A comparison on the same images by ``metric`` (for people) against ``reference``; ``note``: about it, or why it lacks."""

    note: str = ""
    metric: str = ""
    reference: str = ""
    lower_is_better: bool = False
    differences: Sequence[Difference] = ()
    tables: Sequence[Table] = ()


@dataclass(frozen=True)
class RunReport:
    """One evaluated run.

    Attributes:
        name: of the run, for people.
        model: name of its network.
        data: name of the data set of the training.
        kind: "images" or "volumes".
        classes: names.
        counts: of the images in "train", "val" and "test", as "129 to 130" where folds have as many.
        summary: as ``evaluate`` wrote it.
        scores: rows of ``cases.csv``.
        size_unit: of their sizes: "pixels", "ml", or of older evaluations of volumes "voxels".
        history: rows of ``history.csv``.
        facts: further ones to be read in a table.
        probabilities: None where the model was not applied.
        pictures: by case, as many as have room.
        examples: some images of the training with their truth.
        options: the text of ``config.yaml``.
        commands: that make this run anew.
        tested: name of the data set that was scored, where that is another one.
        folds: of the training.
    """

    name: str
    model: str
    data: str
    kind: str
    classes: tuple[str, ...]
    counts: Mapping[str, str]
    summary: Mapping[str, Any]
    scores: Sequence[Score]
    size_unit: str = "pixels"
    history: Sequence[Mapping[str, float]] = ()
    facts: Mapping[str, str] = field(default_factory=dict)
    probabilities: Probabilities | None = None
    pictures: Mapping[str, Picture] = field(default_factory=dict)
    examples: Sequence[tuple[str, Picture]] = ()
    options: str = ""
    commands: Sequence[str] = ()
    tested: str = ""
    folds: int = 1

    @property
    def unit(self) -> str:
        """Of distances."""
        return str(self.summary.get("distance_unit", "mm"))

    @property
    def place(self) -> str:
        """Of the data: two sets may have one name."""
        return str(self.summary.get("data", self.data))

    @property
    def classed(self) -> bool:
        """Whether there are several classes to be told apart."""
        return len(self.summary["classes"]) > 1
