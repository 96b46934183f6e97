"""The colours of every figure: Okabe and Ito's, which colour-blind readers tell apart too (https://jfly.uni-koeln.de/color/)."""

from __future__ import annotations

from collections.abc import Sequence

ORANGE, SKY_BLUE, GREEN, YELLOW = "#E69F00", "#56B4E9", "#009E73", "#F0E442"
BLUE, VERMILION, PURPLE = "#0072B2", "#D55E00", "#CC79A7"
GREY, INK = "#888888", "#444444"  # beside them: what matters less, and a line that all is read against

LINES = (BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY_BLUE)  # on white paper, the dark ones first
LINES_ON_BLACK = (SKY_BLUE, ORANGE, GREEN, PURPLE, YELLOW, VERMILION)  # the same places on a dark page
CONTOURS = (ORANGE, SKY_BLUE, GREEN, YELLOW, BLUE, VERMILION, PURPLE)  # on images, which are dark: the bright ones first
TRUTH, PREDICTION = SKY_BLUE, ORANGE


def pick(colours: Sequence[str], number: int) -> str:
    """Colour of the run, curve or class ``number``, from 0; they come again after the last one.

    >>> pick(LINES, 6) == BLUE
    True
    """
    return colours[number % len(colours)]


def rgb(colour: str) -> tuple[int, int, int]:
    """A colour as bytes.

    >>> rgb(ORANGE)
    (230, 159, 0)
    """
    red, green, blue = bytes.fromhex(colour.removeprefix("#"))
    return red, green, blue
