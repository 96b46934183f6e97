"""A page from a template, in one file that loads nothing from elsewhere. Whatever a template is given is text, and escaped."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from allukan.files import write_text
from allukan.report import figures, palette
from allukan.report.cases import Case, Shown, line_up
from allukan.report.charts import Chart, number, signed
from allukan.report.rendering import templates_beside
from allukan.report.runs import DISTANCES, HEADINGS, Paired, RunReport, Score

_TEMPLATES = templates_beside(__file__)
_TEMPLATES.filters |= {"said": figures.said, "number": number, "signed": signed}
_TEMPLATES.globals |= {
    "truth": palette.TRUTH,
    "prediction": palette.PREDICTION,
    "colours": list(zip(palette.LINES, palette.LINES_ON_BLACK, strict=True)),
    "metrics": HEADINGS,
    "distances": DISTANCES,
}
_WORST, _FIRST = 3, 10  # cases on the first screen, and pictures that are seen at once


def write_report(runs: Sequence[RunReport], out: Path, title: str, paired: Paired | None = None) -> Path:
    """Write ``out``, whole or not at all, and return it. Everything is inside the file; nothing is loaded from elsewhere.

    What a run lacks (history, pictures, probabilities) is said in a line. The runs are one to a few, in the order of their
    colours; ``paired`` is their comparison.
    """
    cases = line_up(runs)
    links = {(case.shown[0].run.place, case.name): f"#{case.anchor}" for case in cases}
    return write(
        out,
        "report.html",
        title=title,
        runs=runs,
        cases=cases,
        rows=sorted(((case, one, score) for case in cases for one in case.shown for score in one.scores), key=_dice),
        labels=list(dict.fromkeys(label for run in runs for label in run.summary["classes"])),
        first=_FIRST,
        worst=[case for case in cases if not case.empty][:_WORST],
        paired=paired or Paired(),
        forest=figures.forest(paired) if paired else None,
        distribution=figures.distribution(runs, links),
        probabilities=[chart for chart in (figures.reliability(runs), figures.thresholds(runs)) if chart],
        sizes=_sizes(runs, links),
        training=figures.training(runs),
        facts=list(dict.fromkeys(name for run in runs for name in run.facts)),
    )


def _sizes(runs: Sequence[RunReport], links: figures.Links) -> list[Chart]:
    units = dict.fromkeys(run.size_unit for run in runs)
    by_size = [figures.by_size([run for run in runs if run.size_unit == unit], links) for unit in units]
    return [chart for chart in (*by_size, *(figures.agreement(run, links) for run in runs)) if chart]


def _dice(row: tuple[Case, Shown, Score]) -> float:
    return row[2].metrics["dice"]


def write(out: Path, template: str, **content: Any) -> Path:
    """Fill a template of ``templates/`` and write it, whole or not at all: a reader never sees half of it."""
    page = _TEMPLATES.get_template(template).render(content)
    out.parent.mkdir(parents=True, exist_ok=True)
    write_text(out, page)
    return out
