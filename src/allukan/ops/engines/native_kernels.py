"""The loops of ``native``, in the part of Python that numba compiles; called through C pointers, with no Python on the way.

A job is an array of int64: the ``ADDRESSES`` of tensors, then ``SIZES`` and where the curves lie. Segment s of x ``(S, N)``
belongs to block j = s % J, whose activations r = 0 … R - 1 each give an output: out and g ``(S, R, N)``. Every thread takes an
equal part of the elements; it builds the table of the activation at hand (``curves``) itself, so that nothing is shared but what
is read.
"""

from __future__ import annotations

import ctypes
from typing import Any

import llvmlite.binding
import numba
import numpy as np
from numba import types

from allukan.ops.engines.native_cache import address_of, callback
from allukan.ops.engines.native_channels import collect_rows, mix, scale_and_shift, sum_rows
from allukan.ops.engines.native_elements import (
    add_line_slopes,
    add_lines,
    add_slopes,
    collect_moments,
    copy,
    differentiate_directly,
    entry,
    evaluate_directly,
    fill,
    fill_slopes,
    fold,
    jit,
    locate,
    look_up,
    pointer,
)

ADDRESSES = ("x", "g", "out", "coef", "weight", "sums", "scale", "shift", "mean", "row_sums")
SIZES = (
    *("segments", "length", "blocks", "per_block", "rows", "first_alive", "alive", "width", "count", "exact"),
    *("inner", "period", "channels", "table", "local", "begin", "grid"),
)
_JOB = len(ADDRESSES) + len(SIZES)
_X, _G, _OUT, _COEF, _WEIGHT, _SUMS, _SCALE, _SHIFT, _MEAN, _ROW_SUMS = range(10)
_S, _N, _J, _R, _ROWS, _FIRST, _ALIVE, _WIDTH, _M, _EXACT = range(10, 20)
_INNER, _PERIOD, _CHANNELS, _TABLE, _LOCAL, _BEGIN, _GRID = range(20, 27)
_RUN = 512  # elements located at once; their rows and positions stay in the L1 cache
_FLUSH = 1 << 16  # elements whose moments are summed in float32 before they join the float64 sums
_ENTRIES: dict[str, Any] = {}  # keeps the machine code alive


_team_member = types.ExternalFunction("omp_get_thread_num", types.int32())
_team_size = types.ExternalFunction("omp_get_num_threads", types.int32())
_TASK = types.void(types.int64, types.int32, types.int32)
_NAMES = ("forward", "backward", "expand", "expand_backward", "sum_channels", "mix_channels")
_forward, _backward, _expand, _expand_backward, _sum, _mix = (types.ExternalFunction(f"allukan_{n}", _TASK) for n in _NAMES)


@jit
def _share(job: Any, thread: int, threads: int) -> tuple[int, int]:
    """First and last of the elements (all segments in a row) that a thread takes, cut at multiples of ``_RUN``."""
    total = job[_S] * job[_N]
    step = ((total + threads - 1) // threads + _RUN - 1) // _RUN * _RUN
    return min(total, thread * step), min(total, (thread + 1) * step)


@jit
def _place(job: Any, element: int) -> tuple[int, int, int]:
    """Block, segment and position of an element, in the order of blocks: a table serves all samples before the next is made."""
    samples, number = job[_S] // job[_J], element // job[_N]
    return number // samples, number % samples * job[_J] + number // samples, element % job[_N]


@jit
def _worth_a_table(job: Any) -> bool:
    """Whether an activation meets enough elements in a row; several of a block take turns on every segment."""
    in_a_row = job[_N] * (job[_S] // job[_J]) if job[_R] == 1 else job[_N]
    return 2 * in_a_row > job[_ROWS] or job[_J] * job[_R] == 1


@jit
def _array(job: Any, name: int, shape: Any) -> Any:
    return numba.carray(pointer(job[name]), shape, np.float32)


@jit
def _curves(job: Any) -> Any:
    """base, local, begin and the first alive row."""
    base, local = _array(job, _TABLE, (job[_ROWS], 4)), _array(job, _LOCAL, (job[_ALIVE], job[_WIDTH], 4))
    return base, local, numba.carray(pointer(job[_BEGIN]), job[_ALIVE], np.int32), job[_FIRST]


@jit
def _channels(job: Any) -> Any:
    """Room for a run of scale·x + shift, and the scale, shift and mean of every row."""
    moved, period = np.empty(_RUN, np.float32), job[_PERIOD]
    return moved, _array(job, _SCALE, period), _array(job, _SHIFT, period), _array(job, _MEAN, period)


@jit
def _argument(job: Any, x: Any, first: int, scale: Any, shift: Any, moved: Any) -> Any:
    """What φ is given of a run of x whose first element has that number."""
    if job[_INNER] == 0:
        return x
    scale_and_shift(x, first, job[_INNER], scale, shift, moved)
    return moved[: x.size]


@jit
def _fold_of(made: int, moments: Any, curves: Any, sums: Any) -> None:
    """``fold`` for the activation of that number, if there was one."""
    if made >= 0:
        fold(moments, curves, sums[made // sums.shape[1], made % sums.shape[1]])


@jit
def _collect_rows(job: Any, r: int, x: Any, g: Any, first: int, mean: Any, sums: Any) -> None:
    """Sums a row of g, once the last activation has added to it."""
    if job[_INNER] != 0 and r == job[_R] - 1:
        collect_rows(x, g, first, job[_INNER], mean, sums)


@entry
def forward(address: int, thread: int, threads: int) -> None:
    """φ of this thread's share of x into out."""
    job = numba.carray(pointer(address), _JOB, np.int64)
    n, per_block, n_rows, count = job[_N], job[_R], job[_ROWS], job[_M]
    x, out = _array(job, _X, (job[_S], n)), _array(job, _OUT, (job[_S], per_block, n))
    coef, weight = _array(job, _COEF, (job[_J], per_block, count)), _array(job, _WEIGHT, (job[_J], per_block))
    curves, grid = _curves(job), _array(job, _GRID, 8)
    own, made = np.empty((n_rows, 4), np.float32), -1  # the activation that the table is of
    rows, position = np.empty(_RUN, np.uint32), np.empty(_RUN, np.float32)
    moved, scale, shift, _ = _channels(job)
    tabled = _worth_a_table(job)
    first, last = _share(job, thread, threads)
    while first < last:
        j, s, left = _place(job, first)
        right = min(n, left + last - first)
        first += right - left
        for r in range(per_block):
            if tabled and made != j * per_block + r:
                fill(curves, weight[j, r], coef[j, r], own)
                made = j * per_block + r
            for start in range(left, right, _RUN):
                xs, ys = x[s, start : min(start + _RUN, right)], out[s, r, start : min(start + _RUN, right)]
                xs = _argument(job, xs, s * n + start, scale, shift, moved)
                outside = locate(xs, grid, rows, position)
                if tabled:
                    look_up(own, rows, position, ys)
                else:
                    evaluate_directly(curves, weight[j, r], coef[j, r], rows, position, ys)
                if outside:
                    add_lines(xs, grid, weight[j, r], ys)


@entry
def backward(address: int, thread: int, threads: int) -> None:
    """Gradient of this thread's share of x into out, those of its parameters into sums."""
    job = numba.carray(pointer(address), _JOB, np.int64)
    n, per_block, n_rows, count, exact = job[_N], job[_R], job[_ROWS], job[_M], job[_EXACT] != 0
    x, g, out = _array(job, _X, (job[_S], n)), _array(job, _G, (job[_S], per_block, n)), _array(job, _OUT, (job[_S], n))
    coef, weight = _array(job, _COEF, (job[_J], per_block, count)), _array(job, _WEIGHT, (job[_J], per_block))
    curves, grid = _curves(job), _array(job, _GRID, 8)
    sums = numba.carray(pointer(job[_SUMS]), (threads, job[_J], per_block, count + 1), np.float64)[thread]
    sums[:] = 0
    own, moments, waiting, made = np.zeros((n_rows, 4), np.float32), np.zeros((n_rows, 4), np.float32), 0, -1
    rows, position, kept = np.empty(_RUN, np.uint32), np.empty(_RUN, np.float32), np.empty(_RUN, np.float32)
    moved, scale, shift, mean = _channels(job)
    row_sums = numba.carray(pointer(job[_ROW_SUMS]), (threads, job[_S] * n // max(1, job[_INNER]), 2), np.float64)
    tabled = _worth_a_table(job)
    first, last = _share(job, thread, threads)
    while first < last:
        j, s, left = _place(job, first)
        right = min(n, left + last - first)
        first += right - left
        for r in range(per_block):
            w, c, total = weight[j, r], coef[j, r], sums[j, r]
            if tabled and made != j * per_block + r:
                _fold_of(made, moments, curves, sums)
                fill_slopes(curves, grid[0], w, c, exact, own)
                made, waiting = j * per_block + r, 0
            for start in range(left, right, _RUN):
                end = min(start + _RUN, right)
                xs, ys, gs = x[s, start:end], out[s, start:end], kept[: end - start]
                copy(g[s, r, start:end], gs)
                if r == 0:
                    ys[:] = 0
                xs = _argument(job, xs, s * n + start, scale, shift, moved)
                outside = locate(xs, grid, rows, position)
                if outside:
                    total[0] += add_line_slopes(xs, gs, grid, w, ys)
                if tabled:
                    add_slopes(own, rows, position, gs, ys)
                    collect_moments(rows, position, gs, moments)
                else:
                    differentiate_directly(curves, grid[0], w, c, exact, rows, position, gs, total, ys)
                _collect_rows(job, r, x[s, start:end], ys, s * n + start, mean, row_sums[thread])
                waiting += (end - start) * tabled
                if waiting >= _FLUSH:
                    fold(moments, curves, total)
                    waiting = 0
    _fold_of(made, moments, curves, sums)


@entry
def finish(address: int, threads: int, activations: int, columns: int, coef: int, weight: int) -> None:
    """Adds up the sums of the threads, in order, into the gradients ``(A, M)`` and ``(A,)`` at these addresses."""
    sums = numba.carray(pointer(address), (threads, activations, columns), np.float64)
    grad_coef = numba.carray(pointer(coef), (activations, columns - 1), np.float32)
    grad_weight = numba.carray(pointer(weight), activations, np.float32)
    for a in range(activations):
        for column in range(columns):
            total = 0.0
            for thread in range(threads):
                total += sums[thread, a, column]
            if column:
                grad_coef[a, column - 1] = total
            else:
                grad_weight[a] = total


@entry
def expand(address: int, thread: int, threads: int) -> None:
    """b and every basis function of this thread's share of x into out ``(S, 1 + M, N)``; "table" holds ``Curves.columns``."""
    job = numba.carray(pointer(address), _JOB, np.int64)
    n, n_rows, count = job[_N], job[_ROWS], job[_M] + 1
    x, out = _array(job, _X, (job[_S], n)), _array(job, _OUT, (job[_S], count, n))
    columns, grid = _array(job, _TABLE, (count, n_rows, 4)), _array(job, _GRID, 8)
    rows, position = np.empty(_RUN, np.uint32), np.empty(_RUN, np.float32)
    first, last = _share(job, thread, threads)
    while first < last:
        s, left = first // n, first % n
        right = min(n, left + last - first, left + _RUN)
        first += right - left
        outside = locate(x[s, left:right], grid, rows, position)
        for m in range(count):
            look_up(columns[m], rows, position, out[s, m, left:right])
        if outside:
            add_lines(x[s, left:right], grid, np.float32(1), out[s, 0, left:right])


@entry
def expand_backward(address: int, thread: int, threads: int) -> None:
    """Gradient of this thread's share of x into out, g ``(S, 1 + M, N)``; "table" holds ``Curves.slopes``."""
    job = numba.carray(pointer(address), _JOB, np.int64)
    n, n_rows, count = job[_N], job[_ROWS], job[_M] + 1
    x, g, out = _array(job, _X, (job[_S], n)), _array(job, _G, (job[_S], count, n)), _array(job, _OUT, (job[_S], n))
    slopes, grid = _array(job, _TABLE, (count, n_rows, 4)), _array(job, _GRID, 8)
    rows, position = np.empty(_RUN, np.uint32), np.empty(_RUN, np.float32)
    first, last = _share(job, thread, threads)
    while first < last:
        s, left = first // n, first % n
        right = min(n, left + last - first, left + _RUN)
        first += right - left
        xs, ys, base = x[s, left:right], out[s, left:right], g[s, 0, left:right]
        ys[:] = 0
        outside = locate(xs, grid, rows, position)
        for m in range(count if job[_EXACT] != 0 else 1):
            add_slopes(slopes[m], rows, position, g[s, m, left:right], ys)
        if outside:
            add_line_slopes(xs, base, grid, np.float32(1), ys)


@entry
def sum_channels(address: int, thread: int, threads: int) -> None:
    """Sums of x and x² of this thread's share of x into "row_sums"."""
    job = numba.carray(pointer(address), _JOB, np.int64)
    total = job[_S] * job[_N]
    sums = numba.carray(pointer(job[_ROW_SUMS]), (threads, total // job[_INNER], 2), np.float64)[thread]
    first, last = _share(job, thread, threads)
    sum_rows(_array(job, _X, total), first, last, job[_INNER], job[_CHANNELS], sums, _RUN)


@entry
def mix_channels(address: int, thread: int, threads: int) -> None:
    """out = "scale" out + "mean" x + "shift", in place, of this thread's share."""
    job = numba.carray(pointer(address), _JOB, np.int64)
    total = job[_S] * job[_N]
    _, own, level, along = _channels(job)
    first, last = _share(job, thread, threads)
    mix(_array(job, _X, total), _array(job, _OUT, total), first, last, job[_INNER], own, along, level)


def _forward_team(address: Any) -> None:
    _forward(address, _team_member(), _team_size())


def _backward_team(address: Any) -> None:
    _backward(address, _team_member(), _team_size())


def _expand_team(address: Any) -> None:
    _expand(address, _team_member(), _team_size())


def _expand_backward_team(address: Any) -> None:
    _expand_backward(address, _team_member(), _team_size())


def _sum_team(address: Any) -> None:
    _sum(address, _team_member(), _team_size())


def _mix_team(address: Any) -> None:
    _mix(address, _team_member(), _team_size())


_TASKS: dict[str, tuple[Any, Any]] = {
    "forward": (forward, _forward_team),
    "backward": (backward, _backward_team),
    "expand": (expand, _expand_team),
    "expand_backward": (expand_backward, _expand_backward_team),
    "sum_channels": (sum_channels, _sum_team),
    "mix_channels": (mix_channels, _mix_team),
}


class _Addresses(dict[str, int]):
    """By name, each compiled when it is first asked for: whoever only predicts waits for no backward pass."""

    def __missing__(self, name: str) -> int:
        task, member = _TASKS[name]
        llvmlite.binding.add_symbol(f"allukan_{name}", address_of(task, _TASK))
        _ENTRIES[name] = callback(member, types.void(types.int64))
        self[name] = _ENTRIES[name].address
        return self[name]


def team_entries(openmp: ctypes.CDLL) -> dict[str, int]:
    """Addresses of the functions above, by name, in a form that every thread of an OpenMP team calls with the job."""
    for name in ("omp_get_thread_num", "omp_get_num_threads"):
        llvmlite.binding.add_symbol(name, ctypes.cast(getattr(openmp, name), ctypes.c_void_p).value)
    return _Addresses()
