"""All of a unit but its linear maps, each way one call of compiled code, which starts the loops of ``native_kernels`` itself.

A job is one of ``native_kernels`` with ``FURTHER`` behind it. Compiled by numba; needs the OpenMP runtime that torch has loaded.
"""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Callable
from functools import cache
from typing import Any

import llvmlite.binding
import numba
import numpy as np
from numba import types

from allukan.ops.engines import native_kernels as kernels
from allukan.ops.engines.native_cache import address_of
from allukan.ops.engines.native_channels import finish_gradient, fold, settle
from allukan.ops.engines.native_elements import entry, pointer

FURTHER = (
    *("threads", "gamma", "beta", "statistics", "running_mean", "running_var", "share"),
    *("grad_coef", "grad_weight", "grad_gamma", "grad_beta", "first", "then"),
    *("batch", "groups", "rows", "eps"),
)
_SIZE = len(kernels.ADDRESSES) + len(kernels.SIZES) + len(FURTHER)
_THREADS, _GAMMA, _BETA, _STATISTICS, _RUNNING_MEAN, _RUNNING_VAR, _SHARE = range(27, 34)
_GRAD_COEF, _GRAD_WEIGHT, _GRAD_GAMMA, _GRAD_BETA, _FIRST, _THEN, _BATCH, _GROUPS, _ROWS, _EPS = range(34, 44)
_parallel = types.ExternalFunction("GOMP_parallel", types.void(types.int64, types.int64, types.int32, types.int32))
further = struct.Struct("6qd6q3qd").pack


@entry
def unit_given(address: int) -> None:
    """φ(u) into "out", with the numbers of the norm, or those that follow from its running statistics."""
    job, real = numba.carray(pointer(address), _SIZE, np.int64), numba.carray(pointer(address), _SIZE, np.float64)
    if job[_RUNNING_MEAN] != 0:
        mean, var, to = job[_RUNNING_MEAN], job[_RUNNING_VAR], job[kernels._SCALE]
        fold(mean, var, job[_GAMMA], job[_BETA], to, job[_ROWS], job[kernels._CHANNELS], job[_GROUPS], real[_EPS])
    _parallel(job[_THEN], address, job[_THREADS], 0)


@entry
def unit_forward(address: int) -> None:
    """The statistics and what follows from them, then φ(u) into "out"."""
    job, real = numba.carray(pointer(address), _SIZE, np.int64), numba.carray(pointer(address), _SIZE, np.float64)
    threads, rows, channels = job[_THREADS], job[_ROWS], job[kernels._CHANNELS]
    _parallel(job[_FIRST], address, threads, 0)
    found = (job[kernels._ROW_SUMS], job[kernels._X], job[_STATISTICS], job[kernels._SCALE])
    running = (job[_RUNNING_MEAN], job[_RUNNING_VAR], real[_SHARE])
    sizes = (threads, job[_BATCH], channels, job[_GROUPS], rows == job[_BATCH], job[kernels._INNER])
    settle(found, (job[_GAMMA], job[_BETA]), running, sizes, real[_EPS])
    _parallel(job[_THEN], address, threads, 0)


@entry
def unit_backward(address: int, mixing: int) -> None:
    """Gradients of all parameters, and of u into "out"; of x where the job ``mixing`` follows."""
    job, real = numba.carray(pointer(address), _SIZE, np.int64), numba.carray(pointer(address), _SIZE, np.float64)
    threads, rows, groups, batch = job[_THREADS], job[_ROWS], job[_GROUPS], job[_BATCH]
    _parallel(job[_FIRST], address, threads, 0)
    activations = job[kernels._J] * job[kernels._R]
    kernels.finish(job[kernels._SUMS], threads, activations, job[kernels._M] + 1, job[_GRAD_COEF], job[_GRAD_WEIGHT])
    if job[kernels._INNER] != 0:
        channels, count = job[kernels._CHANNELS], batch * job[kernels._CHANNELS] * job[kernels._INNER] // (rows * groups)
        found = (job[_STATISTICS], job[_STATISTICS] + 4 * rows * groups, rows, groups, count)
        mixed = numba.carray(pointer(mixing), _SIZE, np.int64)
        out = (mixed[kernels._SCALE], job[_GRAD_GAMMA], job[_GRAD_BETA])
        finish_gradient(job[kernels._ROW_SUMS], threads, found, job[_GAMMA], out, batch, channels, real[_EPS])
        if job[_THEN] != 0:
            _parallel(job[_THEN], mixing, threads, 0)


_FUNCTIONS: dict[str, tuple[Any, int]] = {  # and how many jobs they are given
    "unit_given": (unit_given, 1),
    "unit_forward": (unit_forward, 1),
    "unit_backward": (unit_backward, 2),
}


@cache
def conductor(openmp: ctypes.CDLL, name: str) -> Callable[..., None]:
    """A function of ``_FUNCTIONS``, compiled now, as Python calls it with jobs in ``bytes``."""
    llvmlite.binding.add_symbol("GOMP_parallel", ctypes.cast(openmp.GOMP_parallel, ctypes.c_void_p).value)
    function, jobs = _FUNCTIONS[name]
    where = address_of(function, types.void(*[types.int64] * jobs))
    return ctypes.CFUNCTYPE(None, *[ctypes.c_char_p] * jobs)(where)
