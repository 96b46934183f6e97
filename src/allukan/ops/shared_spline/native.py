"""Forward and backward for CPUs as machine code, compiled by numba at first use: no compiler has to be installed.

The closed form of ``eager``, in one pass over the data each and without a temporary; orders 1 to 3 share the cubic code through a
zero-padded table. Threads follow ``torch.get_num_threads`` and keep partial sums of their own, added up in a fixed order.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from allukan.ops import bspline
from allukan.ops.bases import split_base
from allukan.ops.shared_spline import native_kernels as kernels

MAX_NATIVE_ORDER = 3
_LEAST = 1 << 15  # elements that are worth a thread
Part = tuple[int, int, int, int]  # first and last segment, first and last column


def forward(x: Tensor, coef: Tensor, base_weight: Tensor, grid_range: bspline.GridRange, spline_order: int, base: str) -> Tensor:
    """``eager.forward``: x ``(B, J, N)``, coef ``(J, R, M)``, base_weight ``(J, R)`` → ``(B, J, R, N)``."""
    values, weights, grid, tables = _prepare(x, coef, base_weight, grid_range, spline_order)
    out = values.new_empty(len(values), coef.shape[1], x.shape[2])
    arrays = *_base(base, weights), values.numpy(), tables, weights, grid, out.numpy()
    _run(lambda part: kernels.forward(part, *arrays), *values.shape)
    return out.view(*x.shape[:2], *out.shape[1:]).to(x.dtype)


def backward(
    grad: Tensor,
    x: Tensor,
    coef: Tensor,
    base_weight: Tensor,
    grid_range: bspline.GridRange,
    spline_order: int,
    base: str,
    exact: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """``eager.backward``: gradients for x, coef and base_weight from grad ``(B, J, R, N)`` and the inputs alone."""
    values, weights, grid, tables = _prepare(x, coef, base_weight, grid_range, spline_order)
    g, out = grad.detach().to(values.dtype).contiguous().flatten(0, 1), torch.empty_like(values)
    arrays = *_base(base, weights), g.numpy(), values.numpy(), tables, weights, grid, exact, out.numpy()
    parts = _run(lambda part: kernels.backward(part, *arrays), *values.shape)
    sums = sum(parts[1:], start=parts[0])
    grad_coef = torch.from_numpy(kernels.fold(sums, _pieces(spline_order), coef.shape[2]))
    grad_weight = torch.from_numpy(sums[:, :, -1, 0])
    return out.view(x.shape).to(x.dtype), grad_coef.to(coef.dtype), grad_weight.to(base_weight.dtype)


def _prepare(
    x: Tensor, coef: Tensor, base_weight: Tensor, grid_range: bspline.GridRange, order: int
) -> tuple[Tensor, Any, Any, Any]:
    """x as ``(S, N)`` in the precision of the arithmetic, weights, the grid of ``kernels`` and the table of polynomials."""
    dtype = torch.promote_types(x.dtype, torch.float32)
    values = x.detach().to(dtype).contiguous().flatten(0, 1)
    weights, c = base_weight.detach().to(dtype).contiguous().numpy(), coef.detach().to(dtype).contiguous().numpy()
    (lo, hi), size, kind = grid_range, coef.shape[2] - order, weights.dtype.type
    scale = size / (hi - lo)
    grid = kind(scale), kind(order + 1 - lo * scale), kind(size + 2 * order + 1.5)
    return values, weights, grid, kernels.make_tables(c, _pieces(order))


def _base(name: str, weights: np.ndarray) -> tuple[int, Any]:
    """Kind and parameter of the base activation, in the precision of the arithmetic."""
    kind, parameter = split_base(name)
    return kernels.BASE_KINDS[kind], weights.dtype.type(parameter)


@cache
def _pieces(order: int) -> np.ndarray:
    """Polynomials of the basis, ``(k + 1, 4)``, zero for the powers above ``order``."""
    return np.ascontiguousarray(F.pad(bspline.pieces(order, device=torch.device("cpu")), (0, MAX_NATIVE_ORDER - order)).numpy())


def _run(task: Callable[[Part], Any], segments: int, length: int) -> list[Any]:
    """The task on equal parts of ``(S, N)``, a thread each: cut by segments where there are enough, else by columns."""
    threads = max(1, min(torch.get_num_threads(), segments * length // _LEAST))
    by_segments = segments >= threads
    total = segments if by_segments else length
    cuts = [total * i // threads for i in range(threads + 1)]
    parts = [(a, b, 0, length) if by_segments else (0, segments, a, b) for a, b in pairwise(cuts)]
    others = [_pool(threads - 1).submit(task, part) for part in parts[:-1]]
    last = task(parts[-1])
    return [*(other.result() for other in others), last]


@cache
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(max(1, threads), thread_name_prefix="shared_spline")


if hasattr(os, "register_at_fork"):  # threads do not survive a fork: the child must not wait for those of its parent
    os.register_at_fork(after_in_child=_pool.cache_clear)
