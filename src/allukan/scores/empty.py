"""What a score is where a mask holds nothing: said once, for every metric, so that a failure never improves a mean."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

OK = "ok"
DIAGONAL = "diagonal"  # of the image: no distance in it is larger
Value = float | str | None


@dataclass(frozen=True)
class EmptyRule:
    """One metric where a mask is empty: a number, ``DIAGONAL``, or None where it is not defined.

    Attributes:
        both_empty: nothing there and nothing found, a correct answer.
        missed: something there and nothing found.
        false_alarm: nothing there and something found.
    """

    both_empty: Value
    missed: Value
    false_alarm: Value


@dataclass(frozen=True)
class EmptyMasks:
    """The rules of all metrics by name. panoptica has such objects, an enumeration of results a metric and case.

    >>> EMPTY_MASKS.scores("missed", diagonal=50.0)["hd95"], EMPTY_MASKS.scores("both_empty", diagonal=50.0)["dice"]
    (50.0, 1.0)
    """

    rules: Mapping[str, EmptyRule]

    def scores(self, status: str, diagonal: float) -> dict[str, float | None]:
        """What every metric is for a status but "ok"; ``diagonal`` of the image in the unit of distances."""
        found = {name: getattr(rule, status) for name, rule in self.rules.items()}
        return {name: diagonal if value == DIAGONAL else value for name, value in found.items()}


def status_of(truth: int, prediction: int) -> str:
    """From how many pixels truth and prediction have: "ok", "both_empty", "missed" or "false_alarm".

    >>> status_of(3, 0), status_of(0, 3), status_of(0, 0), status_of(3, 3)
    ('missed', 'false_alarm', 'both_empty', 'ok')
    """
    return (OK if prediction else "missed") if truth else ("false_alarm" if prediction else "both_empty")


OVERLAP = EmptyRule(both_empty=1.0, missed=0.0, false_alarm=0.0)
DISTANCE = EmptyRule(both_empty=0.0, missed=DIAGONAL, false_alarm=DIAGONAL)
EMPTY_MASKS = EmptyMasks({"iou": OVERLAP, "dice": OVERLAP, "hd95": DISTANCE, "surface_dice": OVERLAP})
EMPTY_TRUTH_PERCENT = EmptyRule(both_empty=0.0, missed=-100.0, false_alarm=None)  # of a volume of nothing
