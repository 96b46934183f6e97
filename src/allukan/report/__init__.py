"""What people look at: the HTML report, masks drawn over images, and the look of every figure. Plain arrays and text in."""

from allukan.report import palette
from allukan.report.cases import BOTH_EMPTY, by_case
from allukan.report.overlays import draw_contours
from allukan.report.page import write_report
from allukan.report.pictures import SIDE, Picture, Plane, as_rgb, picture, plane
from allukan.report.plots import LINE_WIDTH, plain
from allukan.report.runs import DISTANCES, HEADINGS, Difference, Paired, Probabilities, RunReport, Score, Table

__all__ = [
    "BOTH_EMPTY",
    "DISTANCES",
    "HEADINGS",
    "LINE_WIDTH",
    "SIDE",
    "Difference",
    "Paired",
    "Picture",
    "Plane",
    "Probabilities",
    "RunReport",
    "Score",
    "Table",
    "as_rgb",
    "by_case",
    "draw_contours",
    "palette",
    "picture",
    "plain",
    "plane",
    "write_report",
]
