"""Works through the cells of a study, beside other processes and machines that do the same in the same folder."""

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
from allukan.study.cells import Cell, finish
from allukan.study.check import check_study
from allukan.study.plan import Study
from allukan.study.tuning import chosen, write_tuning
from allukan.training import TrainConfig

_log = logging.getLogger("allukan")
LEASE_SECONDS = 300.0  # a lock that shows no sign of life for so long is taken over; at once if its process is seen to be dead
POLL_SECONDS = 2.0


@dataclass
class _Job:
    """A cell that a process of ours works on."""

    cell: Cell
    process: SpawnProcess
    lease: SoftFileLease
    started: float


def run_study(study: Study, out: Path, jobs: int = 1, retry_failed: bool = False) -> list[Cell]:
    """Do every cell that is not done, ``jobs`` at a time, each in its own process; return those that failed.

    Any number of calls, on any number of machines, may share ``out``: a cell is done by the one that holds its lock. A cell
    that was interrupted goes on from its last epoch; one that failed is left as it is unless ``retry_failed``.

    Raises:
        UserError: the study cannot be done as it is; nothing has been started.
    """
    if jobs < 1:
        raise UserError(f"jobs must be at least 1, got {jobs}.")
    check_study(study, out)
    out.mkdir(parents=True, exist_ok=True)
    write_json(out / "study.json", asdict(study))
    crew = _Crew(study.cells(out), out, jobs, retry_failed)
    _log.info(f"{len(crew.cells)} runs, {len(crew.cells) - len(crew.pending)} of them done")
    try:
        crew.work()
    finally:
        crew.stop()
        write_tuning(crew.cells, out / "tuning.json")
    return [cell for cell in crew.cells if cell.state != "done"]


class _Crew:
    """What is running, what is pending, and the locks that are watched."""

    def __init__(self, cells: Sequence[Cell], out: Path, jobs: int, retry_failed: bool) -> None:
        self.cells, self.out, self.slots = cells, out, jobs
        self.jobs: list[_Job] = []
        self.pending = [cell for cell in cells if cell.state != "done"]
        self.retry = {cell.folder for cell in cells if cell.state == "failed"} if retry_failed else set()
        self.leases: dict[Path, SoftFileLease] = {}  # kept, because only who watches a lock can tell that it is stale
        self.seconds: dict[tuple[str, str], list[float]] = {}

    def work(self) -> None:
        """Until every cell is done or failed, here or elsewhere."""
        waiting = False
        while self.jobs or self._unsettled():
            while len(self.jobs) < self.slots and self._start_one():
                waiting = False
            if not self.jobs and not waiting and self.pending:
                waiting = True
                _log.info(f"{len(self.pending)} cells are in the hands of other processes or wait for them")
            sentinels = [job.process.sentinel for job in self.jobs]
            if sentinels:
                wait(sentinels, timeout=POLL_SECONDS)
            elif self.pending:
                time.sleep(POLL_SECONDS)
            for job in list(self.jobs):
                self._look_after(job)

    def stop(self) -> None:
        """End what still runs; its cells go on from their last epoch another time."""
        for job in self.jobs:
            job.process.kill()  # everything that it writes is whole or not there
        for job in self.jobs:
            job.process.join()
            job.lease.release()

    def _unsettled(self) -> list[Cell]:
        failed = {(c.data, c.model) for c in self.cells if c.point is not None and self._failed(c)}
        waits_in_vain = [c for c in self.pending if c.tuned and (c.data, c.model) in failed]
        self.pending = [c for c in self.pending if not (c in waits_in_vain or self._settled(c))]
        return self.pending

    def _failed(self, cell: Cell) -> bool:
        return cell.folder not in self.retry and cell.state == "failed"

    def _settled(self, cell: Cell) -> bool:
        return cell.state == "done" or self._failed(cell)

    def _start_one(self) -> bool:
        """Whether a pending cell was ready and free."""
        for cell in self._unsettled():
            options = chosen(self.cells, cell.data, cell.model) if cell.tuned else {}
            if options is not None and self._take(cell):
                self._start(cell, cell.config(options))
                return True
        return False

    def _take(self, cell: Cell) -> bool:
        """Whether the cell is now ours to do."""
        cell.lock.parent.mkdir(parents=True, exist_ok=True)
        if cell.folder not in self.leases:
            self.leases[cell.folder] = SoftFileLease(cell.lock, lease_duration=LEASE_SECONDS)
        lease = self.leases[cell.folder]
        try:
            lease.acquire(timeout=0)
        except Timeout:
            return False
        if self._settled(cell):  # by another process, since we looked
            lease.release()
            return False
        (cell.folder / "failed.txt").unlink(missing_ok=True)
        self.retry.discard(cell.folder)
        return True

    def _start(self, cell: Cell, config: TrainConfig) -> None:
        threads = max(1, torch.get_num_threads() // self.slots)
        process = _spawn(cell, config, threads)
        self.pending.remove(cell)
        self.jobs.append(_Job(cell, process, self.leases.pop(cell.folder), time.monotonic()))

    def _look_after(self, job: _Job) -> None:
        cell, process = job.cell, job.process
        if job.lease.compromise:  # this machine slept, and another process has taken the cell over
            process.kill()
            process.join()
            _log.warning(f"{cell.name}: another process has taken over")
            self.pending.append(cell)
        elif process.is_alive():
            return
        elif cell.state not in ("done", "failed"):
            cell.fail(f"its process ended with exit code {process.exitcode}, see {cell.log} (-9: killed, out of memory?).")
        self.jobs.remove(job)
        if not job.lease.compromise:
            job.lease.release()
            self._tell(job)

    def _tell(self, job: _Job) -> None:
        cell, seconds = job.cell, time.monotonic() - job.started
        states = [other.state for other in self.cells]
        over = f"{states.count('done') + states.count('failed')}/{len(states)}"
        if cell.state == "failed":
            _log.warning(f"{over}  {cell.name}: failed: {cell.failure}")
            return
        if cell.point is not None:
            write_tuning(self.cells, self.out / "tuning.json")
        self.seconds.setdefault((cell.data, cell.model), []).append(seconds)
        _log.info(f"{over}  {cell.name}: done in {duration(seconds)}{self._left()}")

    def _left(self) -> str:
        """How long the rest takes if it takes as long as what went before, of the same data and model where there is some."""
        known = {key: mean(found) for key, found in self.seconds.items()}
        usual = mean(known.values())
        to_do = [*self.pending, *(job.cell for job in self.jobs)]
        left = sum(known.get((cell.data, cell.model), usual) for cell in to_do) / self.slots
        return f", about {duration(left)} left" if to_do else ""


def _spawn(cell: Cell, config: TrainConfig, threads: int) -> SpawnProcess:
    """A new process, so that the memory of a cell is free when it is done, and its crash stays its own."""
    context = multiprocessing.get_context("spawn")
    process = context.Process(target=run_cell, args=(cell, config, threads), daemon=True)
    process.start()
    return process


def run_cell(cell: Cell, config: TrainConfig, threads: int) -> None:
    """What the process of a cell does; it ends when the process that started it does."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _redirect(cell.log)
    torch.set_num_threads(threads)
    attempt(cell, config)


def attempt(cell: Cell, config: TrainConfig) -> None:
    """``finish`` the cell, or record why not."""
    try:
        finish(cell, config)
    except UserError as error:
        cell.fail(str(error))
    except Exception as error:
        cell.fail(f"{type(error).__name__}: {error}\n{traceback.format_exc()}")


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
