"""One process a lane works through it; it is started in the background, and ended by a signal."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

from filelock import FileLock, Timeout

from allukan.errors import UserError
from allukan.files import read_text, write_text
from benchmarks.lane.entries import ROOT, Entry, read_order

_log = logging.getLogger("allukan")
_PATIENCE = 30.0  # seconds that a worker has to end its runs


def start(order: Path, lane: Path) -> Path:
    """Work on the lane in the background, in a session of its own; returns its log. ``UserError`` where that is so already."""
    read_order(order, lane)
    if (pid := worker(lane)) is not None:
        raise UserError(f"the lane {lane} runs already (process {pid}): make lane-status shows how far it is.")
    log = lane / "lane.log"
    command = [sys.executable, "-m", "benchmarks.lane", "work", str(lane), "--order", str(order)]
    with log.open("a", encoding="utf-8") as file:
        subprocess.Popen(
            command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT, start_new_session=True
        )
    return log


def work(order: Path, lane: Path) -> None:
    """Do every entry that is not done, the first ones first. One that cannot be done is told in the log, the others are done."""
    lock = _lock(lane)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise UserError(f"the lane {lane} runs already.") from None
    try:
        write_text(_pid(lane), str(os.getpid()))
        signal.signal(signal.SIGTERM, lambda *_: sys.exit("paused"))  # so that runs are ended and their locks released
        for entry in read_order(order, lane):
            _do(entry)
        _log.info("the lane is at its end.")
    finally:
        lock.release()


def _do(entry: Entry) -> None:
    try:
        progress = entry.progress()
        if progress.done < progress.total:
            _log.info(f"{entry.name}:")
            entry.work()
    except UserError as error:
        _log.warning(f"{entry.name}: {error}")


def pause(lane: Path) -> bool:
    """End the worker and all that it started; whether there was one. The epochs that were over are kept."""
    pid = worker(lane)
    if pid is None:
        return False
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGTERM)
    end = time.monotonic() + _PATIENCE
    while worker(lane) is not None and time.monotonic() < end:
        time.sleep(0.1)
    with suppress(ProcessLookupError):  # all that is left of its session
        os.killpg(pid, signal.SIGKILL)
    return True


def worker(lane: Path) -> int | None:
    """The process that works on the lane, if there is one."""
    lane.mkdir(parents=True, exist_ok=True)
    try:
        with _lock(lane).acquire(timeout=0):
            return None
    except Timeout:
        return int(read_text(_pid(lane)))


def _lock(lane: Path) -> FileLock:
    """Held by the system, which releases it when the process ends, however it does."""
    return FileLock(lane / "lane.lock")


def _pid(lane: Path) -> Path:
    return lane / "lane.pid"
