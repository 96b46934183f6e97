"""Who runs the compiled loops: torch's own threads, or Python's where there is no OpenMP to borrow."""

from __future__ import annotations

import ctypes
import os
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch

from allukan.ops.engines import native_kernels as kernels

_LEAST = 1 << 13  # elements that are worth a thread
_Job = ctypes.c_int64 * len(kernels.JOB)
_PLACES = {name: place for place, name in enumerate(kernels.JOB)}


def team_size(elements: int) -> int:
    """Threads that are asked for; fewer may come, so that sums a thread have to start as zeros."""
    return max(1, min(torch.get_num_threads(), elements // _LEAST))


def prepared(**fields: int) -> bytes:
    """These of the ``JOB`` of ``native_kernels``, the others 0: what many jobs have in common."""
    return bytes(_Job(*[fields.get(name, 0) for name in kernels.JOB]))


def run(task: str, threads: int, job: bytes, **addresses: int) -> None:
    """A task of ``native_kernels`` by so many threads: a prepared job with the addresses of its tensors."""
    mine = _Job.from_buffer_copy(job)
    for name, address in addresses.items():
        mine[_PLACES[name]] = address
    _team()(task, ctypes.addressof(mine), threads)


@cache
def _team() -> Any:
    """What runs a job on so many threads: ``(name, address, threads)``."""
    library = loaded_openmp()
    if library is None:
        return _python_team
    parallel = library.GOMP_parallel
    parallel.argtypes, parallel.restype = [ctypes.c_void_p, ctypes.c_int64, ctypes.c_uint, ctypes.c_uint], None
    entries = kernels.team_entries(library)

    def borrowed(name: str, address: int, threads: int) -> None:
        parallel(entries[name], address, threads, 0)

    return borrowed


def loaded_openmp() -> ctypes.CDLL | None:
    """GNU's OpenMP where torch runs on it; another copy beside torch's would bring threads of its own, so none is ever loaded."""
    folder = Path(torch.__file__).parent
    bundled = [*folder.glob("lib/libgomp*.so*"), *folder.with_name("torch.libs").glob("libgomp*.so*")]
    for name in ("libgomp.so.1", *map(str, bundled)):
        with suppress(OSError, AttributeError):  # not loaded; no such flag, or another library of this name
            library = ctypes.CDLL(name, mode=os.RTLD_NOLOAD | os.RTLD_NOW)
            _ = library.GOMP_parallel, library.omp_get_thread_num, library.omp_get_num_threads
            return library
    return None


def _python_team(name: str, address: int, threads: int) -> None:
    task = partial(getattr(kernels, name), address)
    others = [_pool(threads - 1).submit(task, i, threads) for i in range(1, threads)]
    task(0, threads)
    for other in others:
        other.result()


@cache
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, thread_name_prefix="shared_spline")


if hasattr(os, "register_at_fork"):  # threads do not survive a fork: the child must not wait for those of its parent
    os.register_at_fork(after_in_child=_pool.cache_clear)
