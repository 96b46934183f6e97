"""Forward and backward for CPUs as machine code, compiled by numba at first use: no compiler has to be installed.

One pass over the data each, without a temporary. Threads are those of torch, borrowed through the OpenMP runtime that it has
loaded; where there is none to be found, threads of Python's. Each keeps sums of its own, added up in a fixed order.
"""

from __future__ import annotations

import ctypes
import os
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from allukan.ops import bspline
from allukan.ops.shared_spline import native_kernels as kernels
from allukan.ops.shared_spline.curves import Curves, curves

_dense = torch.ops.aten.is_non_overlapping_and_dense.default
_LEAST = 1 << 13  # elements that are worth a thread
_SHORT = 128  # elements that are not worth a start


def takes(x: Tensor, coef: Tensor, base_weight: Tensor) -> bool:
    """Whether ``forward_whole`` can read these as they lie in memory; one activation takes any order of it that has no gaps."""
    if not (x.dtype is coef.dtype is base_weight.dtype is torch.float32 and coef.is_contiguous() and base_weight.is_contiguous()):
        return False
    return x.is_contiguous() or (len(coef) == 1 and _dense(x))


def forward_whole(
    x: Tensor,
    coef: Tensor,
    base_weight: Tensor,
    lo: float,
    hi: float,
    order: int,
    basis: str,
    base: str,
    exact: bool,
    blocks: int,
) -> Tensor:
    """``layout.forward`` for tensors that ``takes`` accepts: no view, no copy, one call into compiled code."""
    if _scattered(x, coef, blocks):
        parts = (_gathered(x, blocks), coef, base_weight)
        return _scatter(forward_whole(*parts, lo, hi, order, basis, base, exact, blocks), x)
    activations, count = coef.shape
    out = torch.empty_like(x) if activations == 1 else x.new_empty(x.shape[0], activations // blocks * x.shape[1], *x.shape[2:])
    sizes = _sizes(x, activations, blocks, count)
    curve = curves(count - order, order, (lo, hi), basis, base)
    _run("forward", x, x, out, (coef, base_weight), curve, "base", sizes, exact)
    return out


def backward_whole(
    grad: Tensor,
    x: Tensor,
    coef: Tensor,
    base_weight: Tensor,
    lo: float,
    hi: float,
    order: int,
    basis: str,
    base: str,
    exact: bool,
    blocks: int,
) -> tuple[Tensor, Tensor, Tensor]:
    """``layout.backward`` likewise."""
    if _scattered(x, coef, blocks):
        parts = (_gathered(grad, blocks), _gathered(x, blocks), coef, base_weight)
        grad_x, *others = backward_whole(*parts, lo, hi, order, basis, base, exact, blocks)
        return _scatter(grad_x, x), others[0], others[1]
    activations, count = coef.shape
    grad = _in_order_of(x, grad.reshape(x.shape)) if activations == 1 else _plain(grad)
    out, grad_coef, grad_weight = torch.empty_like(x), torch.empty_like(coef), torch.empty_like(base_weight)
    curve, sizes = curves(count - order, order, (lo, hi), basis, base), _sizes(x, activations, blocks, count)
    sums = _run("backward", x, grad, out, (coef, base_weight), curve, "base", sizes, exact)
    kernels.finish(sums, grad_coef.data_ptr(), grad_weight.data_ptr())
    return out, grad_coef, grad_weight


def forward(
    x: Tensor, coef: Tensor, base_weight: Tensor, grid_range: bspline.GridRange, spline_order: int, basis: str, base: str
) -> Tensor:
    """``eager.forward`` in float32: x ``(B, J, N)``, coef ``(J, R, M)``, base_weight ``(J, R)`` → ``(B, J, R, N)``."""
    values, c, w = (_plain(t) for t in (x, coef.flatten(0, 1), base_weight.flatten()))
    out = forward_whole(values, c, w, *grid_range, spline_order, basis, base, True, x.shape[1])
    return out.to(x.dtype).view(*x.shape[:2], coef.shape[1], x.shape[2])


def backward(
    grad: Tensor,
    x: Tensor,
    coef: Tensor,
    base_weight: Tensor,
    grid_range: bspline.GridRange,
    spline_order: int,
    basis: str,
    base: str,
    exact: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """``eager.backward``: gradients for x, coef and base_weight from grad ``(B, J, R, N)`` and the inputs alone."""
    g, values, c, w = (_plain(t) for t in (grad, x, coef.flatten(0, 1), base_weight.flatten()))
    grad_x, grad_coef, grad_weight = backward_whole(g, values, c, w, *grid_range, spline_order, basis, base, exact, x.shape[1])
    return grad_x.to(x.dtype), grad_coef.view(coef.shape).to(coef.dtype), grad_weight.view(coef.shape[:2]).to(base_weight.dtype)


def expand(x: Tensor, grid_size: int, grid_range: bspline.GridRange, spline_order: int, basis: str, base: str) -> Tensor:
    """x ``(S, N)`` → b and all M basis functions, ``(S, M + 1, N)``."""
    values, curve = _plain(x), curves(grid_size, spline_order, grid_range, basis, base)
    out = torch.empty(len(x), len(curve.columns), x.shape[1])
    _run("expand", values, values, out, (values, values), curve, "columns", (*x.shape, 1, 1, len(curve.columns) - 1))
    return out.to(x.dtype)


def expand_backward(
    grad: Tensor,
    x: Tensor,
    grid_size: int,
    grid_range: bspline.GridRange,
    spline_order: int,
    basis: str,
    base: str,
    exact: bool,
) -> Tensor:
    """Gradient of ``expand`` for x, from grad ``(S, M + 1, N)``."""
    values, curve = _plain(x), curves(grid_size, spline_order, grid_range, basis, base)
    out = torch.empty_like(values)
    sizes = (*x.shape, 1, 1, len(curve.columns) - 1)
    _run("expand_backward", values, _plain(grad), out, (values, values), curve, "slopes", sizes, exact)
    return out.to(x.dtype)


def _scattered(x: Tensor, coef: Tensor, blocks: int) -> bool:
    """Whether the elements of an activation lie in runs too short to be worth a start each, as in ``(N, C)`` with A = C."""
    return 1 < blocks == len(coef) and len(x) > 1 and x.numel() < _SHORT * blocks * len(x)


def _gathered(x: Tensor, blocks: int) -> Tensor:
    """``(B, C, *S)`` → ``(1, J, N)``: a run an activation."""
    return x.reshape(len(x), blocks, -1).transpose(0, 1).contiguous().view(1, blocks, -1)


def _scatter(gathered: Tensor, like: Tensor) -> Tensor:
    """The inverse."""
    return gathered.view(gathered.shape[1], len(like), -1).transpose(0, 1).contiguous().view(like.shape)


def _in_order_of(x: Tensor, grad: Tensor) -> Tensor:
    """The same float32 values, in the order of memory of x."""
    if grad.dtype is torch.float32 and grad.stride() == x.stride():
        return grad
    return torch.empty_like(x).copy_(grad)


def _plain(tensor: Tensor) -> Tensor:
    """Float32, one element after the other."""
    return tensor if tensor.dtype is torch.float32 and tensor.is_contiguous() else tensor.detach().to(torch.float32).contiguous()


def _sizes(x: Tensor, activations: int, blocks: int, count: int) -> tuple[int, ...]:
    """Segments, length, J, R, M."""
    if activations == 1:
        return 1, x.numel(), 1, 1, count
    segments = x.shape[0] * blocks
    return segments, x.numel() // segments, blocks, activations // blocks, count


def _run(
    task: str, x: Tensor, g: Tensor, out: Tensor, theta: tuple, curve: Curves, table: str, sizes: tuple, exact: bool = True
) -> np.ndarray:
    """Fill ``out``; returns the sums of every thread, ``(threads, A, 1 + M)`` in float64, that only "backward" fills."""
    threads = max(1, min(torch.get_num_threads(), out.numel() // _LEAST))
    segments, length, groups, per_group, count = sizes
    sums, at = np.zeros((threads, groups * per_group, count + 1)), curve.addresses  # fewer threads may come than are asked for
    addresses = (*(t.data_ptr() for t in (x, g, out, *theta)), at[table], at["local"], at["begin"], at["grid"], sums.ctypes.data)
    rows = (len(curve.base), curve.first_alive, *curve.local.shape[:2])
    job = (ctypes.c_int64 * len(kernels.JOB))(*addresses, segments, length, groups, per_group, *rows, count, exact)
    _team()(task, ctypes.addressof(job), threads)
    return sums


@cache
def _team() -> Any:
    """What runs a job on so many threads: ``(name, address, threads)``."""
    library = _loaded_openmp()
    if library is None:
        return _python_team
    parallel = library.GOMP_parallel
    parallel.argtypes, parallel.restype = [ctypes.c_void_p, ctypes.c_int64, ctypes.c_uint, ctypes.c_uint], None
    entries = kernels.team_entries(library)

    def run(name: str, address: int, threads: int) -> None:
        parallel(entries[name], address, threads, 0)

    return run


def _loaded_openmp() -> ctypes.CDLL | None:
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
