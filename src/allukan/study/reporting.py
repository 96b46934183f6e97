"""The page on a run, on several runs side by side, or on a study: the function behind ``allukan report``."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import compress
from pathlib import Path

from allukan import inference
from allukan.errors import UserError
from allukan.inference import Evaluated
from allukan.inference.segmenter import Progress
from allukan.report import DISTANCES, Difference, Paired, Table
from allukan.study.comparison import Comparison, compare
from allukan.study.differences import ACROSS
from allukan.study.results import SCORES, read_results, sections
from allukan.study.tables import texts

LARGEST = 8  # runs with pictures and charts of their own; more cannot be told apart
_METRIC = "dice"


def report(
    folders: Sequence[str | Path],
    out: Path,
    title: str = "Segmentation report",
    device: str = "auto",
    trust: bool = False,
    progress: Progress = lambda done, total: None,
    evaluation: Path | None = None,
) -> Path:
    """One self-contained HTML page on evaluated runs or trainings in folds, or on the folder of a study; returns its path.

    Several runs are compared as ``compare`` does, or the page says why they cannot be. Of a study all trainings are compared,
    and shown is the first of every model on every data set by every protocol. ``evaluation`` is of one run: the folder that
    ``evaluate`` wrote, where that is not ``RUN/evaluation``.

    Raises ``UserError`` for a folder that is neither, a run that has not been evaluated, and more runs than can be told apart.
    """
    paths = [Path(folder) for folder in folders]
    if evaluation and len(paths) > 1:
        raise UserError(f"--evaluation is of one run, and {len(paths)} are given: leave it out, or report on one.")
    if len(paths) == 1 and (paths[0] / "study.json").is_file():
        found = _of_study(paths[0])
        shown, paired = dict(list(found.items())[:LARGEST]), _paired(paths, trust, _note(len(found)))
    else:
        shown = {path.resolve().name: Evaluated.of(path, evaluation) for path in paths}
        _check(paths, len(shown))
        paired = _paired(paths, trust) if len(paths) > 1 else Paired()
    runs, names = list(shown.values()), list(shown)
    return inference.report(runs, out, title, device, trust, names=names, paired=paired, progress=progress)


def _check(paths: Sequence[Path], names: int) -> None:
    if names < len(paths):
        raise UserError("two of the runs have the same folder name, by which they are told apart: rename one.")
    if names > LARGEST:
        raise UserError(f"{names} runs cannot be told apart in one page: give at most {LARGEST} of them.")


def _note(models: int) -> str:
    more = f", of {models} of them the first {LARGEST}" if models > LARGEST else ""
    return f"Of every model the first training is shown{more}; the tables compare all trainings."


def _of_study(folder: Path) -> dict[str, Evaluated]:
    """One run of every model, data set and protocol, by name."""
    own = [result for result in read_results([folder]) if ACROSS not in result.data]
    firsts = [results[0] for models in sections(own).values() for results in models.values()]
    names = _names([(first.model, first.data, first.protocol) for first in firsts])
    return {name: Evaluated.of(first.folder) for name, first in zip(names, firsts, strict=True)}


def _names(rows: Sequence[tuple[str, str, str]]) -> list[str]:
    """Model, and data set and protocol where there are several of them.

    >>> _names([("ka", "busi", "clean"), ("ka", "cvc", "clean")])
    ['ka, busi', 'ka, cvc']
    """
    told = [True, *(len(set(column)) > 1 for column in list(zip(*rows, strict=True))[1:])]
    return [", ".join(compress(row, told)) for row in rows]


def _paired(paths: Sequence[Path], trust: bool, note: str = "") -> Paired:
    try:
        found = compare(paths, metric=_METRIC, trust=trust)
    except UserError as error:
        return Paired(note=f"Not compared: {error}")
    return Paired(
        note=note,
        metric=SCORES[found.metric],
        reference=found.reference,
        lower_is_better=found.metric in DISTANCES,
        differences=_differences(found),
        tables=[Table(table.title, table.note, table.columns, texts(table)) for table in found.tables],
    )


def _differences(found: Comparison) -> list[Difference]:
    names = _names([(row.model, row.data, row.protocol) for row in found.differences])
    figures = [(row.crossed.mean, *row.crossed.interval, row.p_holm) for row in found.differences]
    return [Difference(name, *values) for name, values in zip(names, figures, strict=True)]
