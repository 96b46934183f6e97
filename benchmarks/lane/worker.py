"""Work on the lane, in the background or here."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
from pathlib import Path

from filelock import Timeout

from allukan.errors import UserError
from allukan.files import write_text
from benchmarks.lane.entries import ROOT, Entry, read_order
from benchmarks.lane.holder import lock_of, pid_file, worker

_log = logging.getLogger("allukan")


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


def _lower_session() -> None:
    """Linux weighs sessions against each other, whatever ``nice`` says within them (``sched_autogroup``)."""
    try:
        Path("/proc/self/autogroup").write_text(str(os.nice(0)), encoding="ascii")
    except OSError:  # another system, or autogroups are off
        _log.debug("the session keeps its weight")


def work(order: Path, lane: Path) -> None:
    """Do every entry that is not done, the first ones first. One that cannot be done is told in the log, the others are done."""
    lock = lock_of(lane)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise UserError(f"the lane {lane} runs already.") from None
    try:
        write_text(pid_file(lane), str(os.getpid()))
        _lower_session()
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
