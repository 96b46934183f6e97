"""What is finished, without weights, into the repository."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from allukan.files import read_text, write_text
from benchmarks.lane.entries import ROOT, CommandEntry, Entry, StudyEntry

_OF_A_RUN = ("config.yaml", "splits.json", "history.csv", "finished.json", "model/config.json")
_OF_AN_EVALUATION = ("cases.csv", "summary.json")
_OF_A_STUDY = ("study.json", "tuning.json")


def copy_results(entries: Sequence[Entry], to: Path) -> dict[str, int]:
    """Copy the files of every finished run to ``to/NAME``, where ``allukan compare`` reads them; returns how many by name."""
    copied = {}
    for entry in entries:
        files = list(_of_command(entry) if isinstance(entry, CommandEntry) else _of_study(entry))
        base = entry.done.parent if isinstance(entry, CommandEntry) else entry.out
        for file in files:
            target = to / entry.name / file.relative_to(base)
            target.parent.mkdir(parents=True, exist_ok=True)
            write_text(target, _from_checkout(read_text(file)))
        copied[entry.name] = len(files)
    return copied


def _of_command(entry: CommandEntry) -> Iterator[Path]:
    if entry.done.is_file():
        yield entry.done


def _of_study(entry: StudyEntry) -> Iterator[Path]:
    finished = [trial for trial in entry.trials() if trial.state == "done"]
    for trial in finished:
        evaluations = sorted(trial.folder.glob("evaluation*"))
        wanted = [trial.folder / name for name in _OF_A_RUN]
        wanted += [folder / name for folder in evaluations for name in _OF_AN_EVALUATION]
        yield from (path for path in wanted if path.is_file())
    if finished:
        yield from (entry.out / name for name in _OF_A_STUDY if (entry.out / name).is_file())


def _from_checkout(text: str) -> str:
    """Paths as seen from the root of the checkout, instead of those of this machine."""
    return text.replace(f"{ROOT}/", "").replace(f"{ROOT.parent}/", "../")
