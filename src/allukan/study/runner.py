"""Works through the trials of a study, beside other processes and machines that do the same in the same folder."""

from __future__ import annotations

import io
import logging
import multiprocessing
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from multiprocessing.connection import wait
from multiprocessing.context import SpawnProcess
from pathlib import Path
from statistics import mean

import torch
from filelock import SoftFileLease, Timeout

from allukan.errors import UserError
from allukan.files import write_json
from allukan.study.check import check_study
from allukan.study.plan import Study
from allukan.study.trials import Trial, finish
from allukan.study.tuning import chosen, write_tuning
from allukan.training import TrainConfig

_log = logging.getLogger("allukan")
LEASE_SECONDS = 300.0  # a lock that shows no sign of life for so long is taken over; at once if its process is seen to be dead
POLL_SECONDS = 2.0


@dataclass
class _Job:
    """A trial that a process of ours works on."""

    trial: Trial
    process: SpawnProcess
    lease: SoftFileLease
    started: float


def run_study(study: Study, out: Path, jobs: int = 1, retry_failed: bool = False) -> list[Trial]:
    """Do every trial that is not done, ``jobs`` at a time, each in its own process; return those that failed.

    Any number of calls, on any number of machines, may share ``out``: a trial is done by the one that holds its lock. A trial
    that was interrupted goes on from its last epoch; one that failed is left as it is unless ``retry_failed``.

    Raises:
        UserError: the study cannot be done as it is; nothing has been started.
    """
    if jobs < 1:
        raise UserError(f"jobs must be at least 1, got {jobs}.")
    check_study(study, out)
    out.mkdir(parents=True, exist_ok=True)
    write_json(out / "study.json", asdict(study))
    crew = _Crew(study.trials(out), out, jobs, retry_failed)
    to_do = "; how long the others take is told after the first of them" if crew.pending else ""
    _log.info(f"{len(crew.trials)} runs, {len(crew.trials) - len(crew.pending)} of them done{to_do}")
    try:
        crew.work()
    finally:
        crew.stop()
        write_tuning(crew.trials, out / "tuning.json")
    return [trial for trial in crew.trials if trial.state != "done"]


class _Crew:
    """What is running, what is pending, and the locks that are watched."""

    def __init__(self, trials: Sequence[Trial], out: Path, jobs: int, retry_failed: bool) -> None:
        self.trials, self.out, self.slots = trials, out, jobs
        self.jobs: list[_Job] = []
        self.pending = [trial for trial in trials if trial.state != "done"]
        self.retry = {trial.folder for trial in trials if trial.state == "failed"} if retry_failed else set()
        self.leases: dict[Path, SoftFileLease] = {}  # kept, because only who watches a lock can tell that it is stale
        self.seconds: dict[tuple[str, str], list[float]] = {}

    def work(self) -> None:
        """Until every trial is done or failed, here or elsewhere."""
        waiting = False
        while self.jobs or self._unsettled():
            while len(self.jobs) < self.slots and self._start_one():
                waiting = False
            if not self.jobs and not waiting and self.pending:
                waiting = True
                _log.info(f"{len(self.pending)} runs are in the hands of other processes or wait for them")
            sentinels = [job.process.sentinel for job in self.jobs]
            if sentinels:
                wait(sentinels, timeout=POLL_SECONDS)
            elif self.pending:
                time.sleep(POLL_SECONDS)
            for job in list(self.jobs):
                self._look_after(job)

    def stop(self) -> None:
        """End what still runs; its trials go on from their last epoch another time."""
        for job in self.jobs:
            job.process.kill()  # everything that it writes is whole or not there
        for job in self.jobs:
            job.process.join()
            job.lease.release()

    def _unsettled(self) -> list[Trial]:
        failed = {(c.data, c.model) for c in self.trials if c.point is not None and self._failed(c)}
        waits_in_vain = [c for c in self.pending if c.tuned and (c.data, c.model) in failed]
        self.pending = [c for c in self.pending if not (c in waits_in_vain or self._settled(c))]
        return self.pending

    def _failed(self, trial: Trial) -> bool:
        return trial.folder not in self.retry and trial.state == "failed"

    def _settled(self, trial: Trial) -> bool:
        return trial.state == "done" or self._failed(trial)

    def _start_one(self) -> bool:
        """Whether a pending trial was ready and free."""
        for trial in self._unsettled():
            options = chosen(self.trials, trial.data, trial.model) if trial.tuned else {}
            if options is not None and self._take(trial):
                self._start(trial, trial.config(options))
                return True
        return False

    def _take(self, trial: Trial) -> bool:
        """Whether the trial is now ours to do."""
        trial.lock.parent.mkdir(parents=True, exist_ok=True)
        if trial.folder not in self.leases:
            self.leases[trial.folder] = SoftFileLease(trial.lock, lease_duration=LEASE_SECONDS)
        lease = self.leases[trial.folder]
        try:
            lease.acquire(timeout=0)
        except Timeout:
            return False
        if self._settled(trial):  # by another process, since we looked
            lease.release()
            return False
        (trial.folder / "failed.txt").unlink(missing_ok=True)
        self.retry.discard(trial.folder)
        return True

    def _start(self, trial: Trial, config: TrainConfig) -> None:
        threads = max(1, torch.get_num_threads() // self.slots)
        process = _spawn(trial, config, threads)
        self.pending.remove(trial)
        self.jobs.append(_Job(trial, process, self.leases.pop(trial.folder), time.monotonic()))

    def _look_after(self, job: _Job) -> None:
        trial, process = job.trial, job.process
        if job.lease.compromise:  # this machine slept, and another process has taken the trial over
            process.kill()
            process.join()
            _log.warning(f"{trial.name}: another process has taken over")
            self.pending.append(trial)
        elif process.is_alive():
            return
        elif trial.state not in ("done", "failed"):
            trial.fail(f"its process ended with exit code {process.exitcode}, see {trial.log} (-9: killed, out of memory?).")
        self.jobs.remove(job)
        if not job.lease.compromise:
            job.lease.release()
            self._tell(job)

    def _tell(self, job: _Job) -> None:
        trial, seconds = job.trial, time.monotonic() - job.started
        states = [other.state for other in self.trials]
        over = f"{states.count('done') + states.count('failed')}/{len(states)}"
        if trial.state == "failed":
            _log.warning(f"{over}  {trial.name}: failed: {trial.failure}")
            return
        if trial.point is not None:
            write_tuning(self.trials, self.out / "tuning.json")
        self.seconds.setdefault((trial.data, trial.model), []).append(seconds)
        _log.info(f"{over}  {trial.name}: done in {duration(seconds)}{self._left()}")

    def _left(self) -> str:
        """How long the rest takes if it takes as long as what went before, of the same data and model where there is some."""
        known = {key: mean(found) for key, found in self.seconds.items()}
        usual = mean(known.values())
        to_do = [*self.pending, *(job.trial for job in self.jobs)]
        left = sum(known.get((trial.data, trial.model), usual) for trial in to_do) / self.slots
        return f", about {duration(left)} left" if to_do else ""


def _spawn(trial: Trial, config: TrainConfig, threads: int) -> SpawnProcess:
    """A new process, so that the memory of a trial is free when it is done, and its crash stays its own."""
    context = multiprocessing.get_context("spawn")
    process = context.Process(target=run_trial, args=(trial, config, threads), daemon=True)
    process.start()
    return process


def run_trial(trial: Trial, config: TrainConfig, threads: int) -> None:
    """What the process of a trial does; it ends when the process that started it does."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _redirect(trial.log)
    torch.set_num_threads(threads)
    attempt(trial, config)


def attempt(trial: Trial, config: TrainConfig) -> None:
    """``finish`` the trial, or record why not."""
    try:
        finish(trial, config)
    except UserError as error:
        trial.fail(str(error))
    except Exception as error:
        trial.fail(f"{type(error).__name__}: {error}\n{traceback.format_exc()}")


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os.kill(os.getpid(), getattr(signal, "SIGKILL", signal.SIGTERM))  # Windows ends a process by the latter


def _redirect(path: Path) -> None:
    """Everything that is said from here on, the messages of the package included, goes to the end of ``path``."""
    with path.open("a", encoding="utf-8") as file:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
            os.dup2(file.fileno(), stream.fileno())
            if isinstance(stream, io.TextIOWrapper):
                stream.reconfigure(encoding="utf-8", errors="backslashreplace")
    logging.basicConfig(format="%(asctime)s %(message)s")
    _log.setLevel(logging.INFO)


def duration(seconds: float) -> str:
    """In words.

    >>> duration(8), duration(200), duration(9000)
    ('8 s', '3 min', '2 h 30 min')
    """
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02d} min"
