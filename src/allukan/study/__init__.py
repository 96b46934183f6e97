"""Studies: models × data sets × protocols × seeds as one resumable matrix, and fair comparisons of what came out."""

from allukan.study.check import check_study
from allukan.study.comparison import Comparison, compare
from allukan.study.differences import Difference
from allukan.study.forest import check_figure, draw_forest
from allukan.study.plan import Study, Tune, load_study
from allukan.study.reporting import report
from allukan.study.runner import duration, run_study
from allukan.study.tables import Interval, Spread, Table, check_tables, render
from allukan.study.trials import Trial

__all__ = [
    "Comparison",
    "Difference",
    "Interval",
    "Spread",
    "Study",
    "Table",
    "Trial",
    "Tune",
    "check_figure",
    "check_study",
    "check_tables",
    "compare",
    "draw_forest",
    "duration",
    "load_study",
    "render",
    "report",
    "run_study",
]
