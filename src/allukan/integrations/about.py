"""What a run says of itself in words: data, training, results, use and limits, for the cards of exported models."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from allukan.files import read_json
from allukan.inference import Run, check_current
from allukan.report import DISTANCES, HEADINGS

_PARTS = {"train": "training", "val": "validation", "test": "test"}
_USE = """## Intended use and limits

Research on images like those it was trained on: of the same kind, machine and part of the body. Nothing is known about others.
Look at its masks before anything depends on them. Not a medical device, and not for diagnosis.

"""


def about(run: Run | None) -> str:
    """Data, training, results with 95 % intervals, use and limits, in Markdown; ``UserError`` for results of other weights."""
    if run is None:
        return "Data, training and results are not known: the model was exported without its run.\n\n" + _USE
    return "".join([_data(run), _results(run), _USE])


def _data(run: Run) -> str:
    counts = ", ".join(f"{len(getattr(run.splits, part))} for {name}" for part, name in _PARTS.items())
    told = {name: run.config[name] for name in ("epochs", "batch_size", "lr", "seed") if name in run.config}
    options = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in told.items())
    return f"""## Data and training

Dataset `{Path(run.config["data"]).name}`, protocol `{run.splits.protocol}`: {counts}. Training: {options}; all options are in the
`config.yaml` of the run.

"""


def _results(run: Run) -> str:
    evaluation = run.folder / "evaluation"
    if not (evaluation / "summary.json").is_file():
        return "## Results\n\nNot evaluated yet: `allukan evaluate RUN`, then export again.\n\n"
    summary = read_json(evaluation / "summary.json")
    check_current(summary, evaluation, run.folder)
    unit = summary["distance_unit"]
    head = [f"{text} ({unit})" if key in DISTANCES else text for key, text in HEADINGS.items()]
    lines = [["", "masks", *head], ["---"] * (len(head) + 2), *_rows(summary)]
    table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    notes = "".join(f"- {note}\n" for note in summary["notes"])
    return f"## Results\n\nOf the {summary['subset']} images, mean (95 % interval):\n\n{table}\n\n{notes}\n"


def _rows(summary: Mapping[str, Any]) -> Iterator[list[str]]:
    several = summary["classes"].items() if len(summary["classes"]) > 1 else ()
    for name, figures in [("all", summary["overall"]), *several]:
        yield [name, str(figures["cases"]), *(_score(figures[key], 1 if key in DISTANCES else 3) for key in HEADINGS)]


def _score(figure: Mapping[str, float], digits: int) -> str:
    return f"{figure['mean']:.{digits}f} ({figure['low']:.{digits}f} … {figure['high']:.{digits}f})"
