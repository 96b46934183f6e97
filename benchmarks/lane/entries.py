"""What the lane works through: studies, and programs that resume by themselves."""

from __future__ import annotations

import subprocess
import sys
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import Any

from allukan.errors import UserError
from allukan.files import read_table
from allukan.options import DEFAULT_EPOCHS, check_names
from allukan.study import Trial, load_study, run_study
from allukan.yaml_files import read_yaml

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Progress:
    """How far an entry is: numbers of runs, names of those begun and failed, and seconds left where a pace is known."""

    done: int
    total: int
    begun: tuple[str, ...] = ()
    failed: tuple[str, ...] = ()
    seconds: float | None = None


@dataclass(frozen=True)
class StudyEntry:
    """A study file, done in ``lane/NAME``; what was interrupted goes on from its last epoch."""

    file: Path
    lane: Path

    @property
    def name(self) -> str:
        """Of the file without its suffix."""
        return self.file.stem

    @property
    def out(self) -> Path:
        """The folder of the study."""
        return self.lane / self.name

    def trials(self) -> list[Trial]:
        """All runs, in their order."""
        return load_study(self.file).trials(self.out)

    def work(self) -> None:
        """Do what is not done; what failed stays as it is."""
        run_study(load_study(self.file), self.out)

    def progress(self) -> Progress:
        """Read from the folders of the runs."""
        trials = self.trials()
        by_state: dict[str, list[Trial]] = defaultdict(list)
        for trial in trials:
            by_state[trial.state].append(trial)
        begun = tuple(trial.name for trial in by_state["started"])
        failed = tuple(f"{trial.name}: {trial.failure}" for trial in by_state["failed"])
        return Progress(len(by_state["done"]), len(trials), begun, failed, _left(trials))


@dataclass(frozen=True)
class CommandEntry:
    """A program that goes on by itself where it was interrupted, and writes the file ``done`` at its end."""

    command: tuple[str, ...]
    done: Path
    lane: Path

    @property
    def name(self) -> str:
        """Of the folder that ``done`` is in."""
        return self.done.parent.name

    def work(self) -> None:
        """Run it from the root of the checkout. ``UserError`` where it ends without its file."""
        process = subprocess.Popen(self.command, cwd=ROOT)
        try:
            code = process.wait()
        finally:
            process.kill()
            process.wait()
        if not self.done.is_file():
            raise UserError(f"{' '.join(self.command)} ended with exit code {code} and without {self.done}.")

    def progress(self) -> Progress:
        """One run: its file is there or not."""
        return Progress(int(self.done.is_file()), 1)


Entry = StudyEntry | CommandEntry


def read_order(file: Path, lane: Path) -> list[Entry]:
    """The entries of a file such as ``benchmarks/studies/lane.yaml``, the most urgent first; ``UserError`` for what is none.

    ``{lane}`` in a command and in ``done`` is the folder of the lane, ``python`` the interpreter that runs now.
    """
    raw = read_yaml(file)
    check_names(raw, ["order"], f"key of {file}")
    return [_entry(given, file, lane) for given in raw.get("order") or ()]


def _entry(given: Any, file: Path, lane: Path) -> Entry:
    check_names(given, ["study", "command", "done"], f"key of an entry of {file}")
    if given.keys() == {"study"} and isinstance(given["study"], str):
        return StudyEntry((file.parent / given["study"]).resolve(), lane)
    if given.keys() != {"command", "done"} or not (isinstance(given["command"], list) and given["command"]):
        raise UserError(f"{file}: an entry is 'study: FILE', or 'command: [...]' with 'done: FILE', got {dict(given)}.")
    words = [str(word).replace("{lane}", str(lane)) for word in given["command"]]
    command = (sys.executable if words[0] == "python" else words[0], *words[1:])
    return CommandEntry(command, Path(str(given["done"]).replace("{lane}", str(lane))), lane)


def _left(trials: Sequence[Trial]) -> float | None:
    """Seconds of training, at the pace of the same data and model where there is one, else of all."""
    paces: dict[tuple[str, str], list[float]] = defaultdict(list)
    todo: list[tuple[tuple[str, str], int]] = []
    for trial in trials:
        key, history = (trial.data, trial.model), trial.folder / "history.csv"
        seconds = [float(row["seconds"]) for row in read_table(history)] if history.is_file() else []
        paces[key] += seconds
        if trial.state not in ("done", "failed"):
            todo.append((key, (trial.config({}).epochs or DEFAULT_EPOCHS) - len(seconds)))
    known = {key: mean(seconds) for key, seconds in paces.items() if seconds}
    if not known:
        return None
    usual = mean(known.values())
    return sum(known.get(key, usual) * epochs for key, epochs in todo)
