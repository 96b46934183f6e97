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

from allukan.ops.engines import layout
from allukan.ops.engines import native_kernels as kernels
from allukan.ops.engines.curves import MAX_ROWS, Curves, curves, rows_needed
from allukan.ops.engines.layout import Gradients
from allukan.ops.phi import Phi

CHANNELS_LAST = False
_dense = torch.ops.aten.is_non_overlapping_and_dense.default
_MAX_ORDER = 3  # of B-splines: cubics
_LEAST = 1 << 13  # elements that are worth a thread
_SHORT = 128  # elements that are not worth a start


def obstacle(phi: Phi, device: str, dtype: torch.dtype) -> str | None:
    """What these loops cannot compute."""
    if device != "cpu":
        return f"it runs on a CPU and x is on {device}"
    if dtype == torch.float64:
        return f"it computes in float32 and x is {dtype}"
    if phi.basis == "bspline" and phi.spline_order > _MAX_ORDER:
        return f"spline_order {phi.spline_order} is above {_MAX_ORDER}"
    if rows_needed(phi.grid, phi.basis, phi.base) > MAX_ROWS:
        grid = f"grid_range {phi.grid_range} with {phi.grid_size} intervals"
        return f"{grid} would need a table of more than {MAX_ROWS} rows"
    return None


def forward(x: Tensor, coef: Tensor, base_weight: Tensor, phi: Phi) -> Tensor:
    """φ(x), ``(B, C, *S)`` → ``(B, A·C/J, *S)``: for what lies well in memory no view, no copy, one call into compiled code."""
    if not x.numel():
        return layout.output_like(x, coef, phi.blocks, CHANNELS_LAST)
    values = _readable(x, coef)
    if _scattered(x, coef, phi.blocks):
        return _scatter(forward(_gathered(x, phi.blocks), coef, base_weight, phi), x)
    activations, count = coef.shape
    out = torch.empty_like(values) if activations == 1 else values.new_empty(*_channels(x, activations // phi.blocks))
    theta = (_plain(coef), _plain(base_weight))
    _run("forward", values, values, out, theta, _curves(phi), "base", _sizes(x, activations, phi.blocks, count))
    return out if out.dtype is x.dtype else out.to(x.dtype)


def backward(grad: Tensor, x: Tensor, coef: Tensor, base_weight: Tensor, phi: Phi) -> Gradients:
    """The gradients of ``forward`` likewise."""
    if not x.numel():
        return layout.gradient_like(x, coef, phi.blocks, CHANNELS_LAST), torch.zeros_like(coef), torch.zeros_like(base_weight)
    if _scattered(x, coef, phi.blocks):
        parts = (_gathered(grad, phi.blocks), _gathered(x, phi.blocks))
        grad_x, *others = backward(*parts, coef, base_weight, phi)
        return _scatter(grad_x, x), others[0], others[1]
    (activations, count), values = coef.shape, _readable(x, coef)
    grad = _in_order_of(values, grad.reshape(x.shape)) if activations == 1 else _plain(grad)
    theta = (_plain(coef), _plain(base_weight))
    out, grad_coef, grad_weight = torch.empty_like(values), torch.empty_like(theta[0]), torch.empty_like(theta[1])
    sizes = _sizes(x, activations, phi.blocks, count)
    sums = _run("backward", values, grad, out, theta, _curves(phi), "base", sizes, phi.exact)
    kernels.finish(sums, grad_coef.data_ptr(), grad_weight.data_ptr())
    if x.dtype is coef.dtype is base_weight.dtype is torch.float32:
        return out, grad_coef, grad_weight
    return out.to(x.dtype), grad_coef.to(coef.dtype), grad_weight.to(base_weight.dtype)


def expand(x: Tensor, phi: Phi) -> Tensor:
    """b and all M basis functions, ``(B, C, *S)`` → ``(B, C, M + 1, *S)``."""
    values, curve = _plain(x), _curves(phi)
    out = values.new_empty(*x.shape[:2], len(curve.columns), *x.shape[2:])
    if out.numel():
        _run("expand", values, values, out, (values, values), curve, "columns", _rows(x, phi))
    return out.to(x.dtype)


def expand_backward(grad: Tensor, x: Tensor, phi: Phi) -> Tensor:
    """Gradient of ``expand`` for x, from grad ``(B, C, M + 1, *S)``."""
    values = _plain(x)
    out = torch.empty_like(values)
    if out.numel():
        _run("expand_backward", values, _plain(grad), out, (values, values), _curves(phi), "slopes", _rows(x, phi), phi.exact)
    return out.to(x.dtype)


def _curves(phi: Phi) -> Curves:
    return curves(phi.grid, phi.basis, phi.base)


def _channels(x: Tensor, times: int) -> tuple[int, ...]:
    return x.shape[0], times * x.shape[1], *x.shape[2:]


def _rows(x: Tensor, phi: Phi) -> tuple[int, ...]:
    """``_sizes`` of an expansion: a segment a channel."""
    segments = x.shape[0] * x.shape[1]
    return segments, x.numel() // segments, 1, 1, phi.coefficients


def _readable(x: Tensor, coef: Tensor) -> Tensor:
    """x in float32 as the loops can read it; one activation takes any order of memory that has no gaps."""
    if len(coef) > 1:
        return _plain(x)
    if x.dtype is torch.float32 and (x.is_contiguous() or _dense(x)):
        return x
    return torch.empty_like(x, dtype=torch.float32).copy_(x)


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
