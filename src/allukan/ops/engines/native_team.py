"""Who runs the compiled loops: torch's own threads, or Python's where there is no OpenMP to borrow."""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch

from allukan.ops.engines import native_kernels as kernels
from allukan.ops.engines.native_conductor import conductor

_LEAST = 1 << 13  # elements that are worth a thread
addresses = struct.Struct(f"{len(kernels.ADDRESSES)}q").pack


def team_size(elements: int) -> int:
    """Threads that are asked for; fewer may come, so that sums a thread have to start as zeros."""
    return max(1, min(torch.get_num_threads(), elements // _LEAST))


def packed(**sizes: int) -> bytes:
    """These of the ``SIZES`` of ``native_kernels``, the others 0: what many jobs have in common."""
    return struct.pack(f"{len(kernels.SIZES)}q", *(sizes.get(name, 0) for name in kernels.SIZES))


def run(
    task: str,
    threads: int,
    job: bytes,
    x: int,
    g: int = 0,
    out: int = 0,
    coef: int = 0,
    weight: int = 0,
    sums: int = 0,
    to: tuple[int, int, int] = (0, 0, 0),
    row_sums: int = 0,
) -> None:
    """A task of ``native_kernels`` by so many threads: a prepared job behind the addresses of its tensors."""
    _team()(task, addresses(x, g, out, coef, weight, sums, *to, row_sums) + job, threads)


@cache
def _team() -> Any:
    """What runs a job on so many threads: ``(name, job, threads)``."""
    library = loaded_openmp()
    if library is None:
        return _python_team
    parallel = library.GOMP_parallel
    parallel.argtypes, parallel.restype = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_uint, ctypes.c_uint], None
    entries = kernels.team_entries(library)

    def borrowed(name: str, job: bytes, threads: int) -> None:
        parallel(entries[name], job, threads, 0)

    borrowed.conducted = partial(conductor, library), entries  # type: ignore[attr-defined]
    return borrowed


def conducted() -> tuple[Callable[[str], Callable[..., None]], Mapping[str, int]] | None:
    """The functions of ``native_conductor`` by name, and the tasks that they may start; None without OpenMP."""
    return getattr(_team(), "conducted", None)


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


def _python_team(name: str, job: bytes, threads: int) -> None:
    memory = ctypes.create_string_buffer(job)
    task = partial(getattr(kernels, name), ctypes.addressof(memory))
    others = [_pool(threads - 1).submit(task, i, threads) for i in range(1, threads)]
    task(0, threads)
    for other in others:
        other.result()


@cache
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, thread_name_prefix="shared_spline")


if hasattr(os, "register_at_fork"):  # threads do not survive a fork: the child must not wait for those of its parent
    os.register_at_fork(after_in_child=_pool.cache_clear)
