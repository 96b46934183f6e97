"""Forward and backward for CPUs as machine code, compiled by numba at first use: no compiler has to be installed.

The closed form of ``eager``, in one pass over the data each and without a temporary; orders 1 to 3 share the cubic code through a
zero-padded table. Threads follow ``torch.get_num_threads`` and keep partial sums of their own, added up in a fixed order.
"""

from __future__ import annotations

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
from allukan.ops.shared_spline import native_kernels
from allukan.ops.shared_spline.eager import fold_table_gradient, piece_table

MAX_ORDER = 3
_LEAST = 1 << 15  # elements that are worth a thread
Part = tuple[int, int, int, int]  # first and last segment, first and last column


def forward(x: Tensor, coef: Tensor, base_weight: Tensor, grid_range: bspline.GridRange, spline_order: int, base: str) -> Tensor:
    """``eager.forward``: x ``(B, J, N)``, coef ``(J, R, M)``, base_weight ``(J, R)`` → ``(B, J, R, N)``."""
    dtype = torch.promote_types(x.dtype, torch.float32)
    values = x.to(dtype).contiguous().flatten(0, 1)
    out = values.new_empty(len(values), coef.shape[1], x.shape[2])
    weights = _numpy(base_weight.to(dtype))
    grid = _grid(coef, spline_order, grid_range, weights.dtype.type)
    tables = _numpy(_tables(coef.to(dtype), spline_order).mT)
    kind = native_kernels.BASE_KINDS[base]
    _run(lambda part: native_kernels.forward(part, kind, _numpy(values), tables, weights, grid, _numpy(out)), *values.shape)
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
    dtype = torch.promote_types(x.dtype, torch.float32)
    values, g = x.to(dtype).contiguous().flatten(0, 1), grad.to(dtype).contiguous().flatten(0, 1)
    out = torch.empty_like(values)
    table, weights = _tables(coef.to(dtype), spline_order), _numpy(base_weight.to(dtype))
    grid = _grid(coef, spline_order, grid_range, weights.dtype.type)
    slopes = _numpy((table[..., 1:] * torch.arange(1, MAX_ORDER + 1, dtype=dtype) * float(grid[0])).mT)
    kind, arrays = native_kernels.BASE_KINDS[base], (_numpy(g), _numpy(values), slopes, weights)
    parts = _run(lambda part: native_kernels.backward(part, kind, *arrays, grid, exact, _numpy(out)), *values.shape)
    sums = torch.from_numpy(sum(parts))
    grad_coef = fold_table_gradient(sums[:, :, :-1, : spline_order + 1], spline_order)
    return out.view(x.shape).to(x.dtype), grad_coef.to(coef.dtype), sums[:, :, -1, 0].to(base_weight.dtype)


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


def _grid(coef: Tensor, order: int, grid_range: bspline.GridRange, kind: Any) -> tuple[Any, Any, Any]:
    """Scale and shift from x to rows of the table, and the highest position."""
    (lo, hi), size = grid_range, coef.shape[-1] - order
    scale = size / (hi - lo)
    return kind(scale), kind(order + 1 - lo * scale), kind(size + 2 * order + 1.5)


def _tables(coef: Tensor, order: int) -> Tensor:
    """coef ``(J, R, M)`` → ``(J, R, rows, 4)``, zero for the powers above ``order``."""
    return F.pad(piece_table(coef, order), (0, MAX_ORDER - order))


def _numpy(x: Tensor) -> np.ndarray:
    return x.detach().contiguous().numpy()
