"""What people look at: the HTML report, masks drawn over images, and the look of every figure. Plain arrays and text in."""

from allukan.report import palette
from allukan.report.overlays import draw_contours
from allukan.report.plots import LINE_WIDTH, plain
from allukan.report.runs import DISTANCES, HEADINGS, Activation, Overlay, RunReport, write_report

__all__ = [
    "DISTANCES",
    "HEADINGS",
    "LINE_WIDTH",
    "Activation",
    "Overlay",
    "RunReport",
    "draw_contours",
    "palette",
    "plain",
    "write_report",
]
