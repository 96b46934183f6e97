"""Which process works on a lane, by a lock, and how it is ended. Nothing heavy is imported, so that a pause is quick."""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress
from pathlib import Path

from filelock import FileLock, Timeout

from allukan.files import read_text

_PATIENCE = 30.0  # seconds that a worker has to end its runs


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
        with lock_of(lane).acquire(timeout=0):
            return None
    except Timeout:
        return int(read_text(pid_file(lane)))


def lock_of(lane: Path) -> FileLock:
    """Held by the system, which releases it when the process ends, however it does."""
    return FileLock(lane / "lane.lock")


def pid_file(lane: Path) -> Path:
    """Holds the number of the process that holds the lock."""
    return lane / "lane.pid"
