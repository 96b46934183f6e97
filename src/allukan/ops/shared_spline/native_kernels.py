"""The loops of ``native``, in the part of Python that numba compiles.

Arrays: x (S, N), out of the forward pass and g (S, R, N), tables (J, R, 4, rows), weights (J, R); segment s belongs to
group s % J. ``grid`` is (scale, shift, top): x·scale + shift, held in 0 … top, is row + position in the table.
"""

from __future__ import annotations

import math
from typing import Any

import numba
import numpy as np

BASE_KINDS = {"silu": 0, "identity": 1, "relu": 2, "gelu": 3, "tanh": 4, "leaky_relu": 5}
_RUN = 1024  # elements located at once, and summed in the precision of x before they join the float64 sums
_jit = numba.njit(nogil=True, cache=True, error_model="numpy", fastmath={"nsz", "contract", "arcp"})
_jit_sums = numba.njit(nogil=True, cache=True, error_model="numpy", fastmath={"nsz", "contract", "arcp", "reassoc"})


@_jit
def make_tables(coef: Any, pieces: Any) -> Any:
    """coef (J, R, M) and pieces (k + 1, 4) → (J, R, 4, rows), rows = M + k + 2: powers of the position, by interval."""
    groups, per_group, count = coef.shape
    k = pieces.shape[0] - 1
    tables = np.zeros((groups, per_group, 4, count + k + 2), coef.dtype)
    for j in range(groups):
        for r in range(per_group):
            for m in range(count):
                for q in range(k + 1):
                    for p in range(4):
                        tables[j, r, p, m + k + 1 - q] += coef[j, r, m] * pieces[q, p]
    return tables


@_jit
def fold(sums: Any, pieces: Any, count: int) -> Any:
    """Adjoint of ``make_tables``: sums (J, R, rows + 1, 4) → gradient of coef (J, R, M), float64."""
    k = pieces.shape[0] - 1
    out = np.zeros((sums.shape[0], sums.shape[1], count))
    for j in range(sums.shape[0]):
        for r in range(sums.shape[1]):
            for m in range(count):
                for q in range(k + 1):
                    for p in range(4):
                        out[j, r, m] += sums[j, r, m + k + 1 - q, p] * pieces[q, p]
    return out


@_jit
def _locate(x: Any, grid: Any, rows: Any, position: Any) -> None:
    """Row of the table and position in it of every x; NaN goes to row 0, the base branch carries it on."""
    scale, shift, top = grid
    zero = top - top
    for i in range(x.size):
        u = x[i] * scale + shift
        u = u if u > zero else zero
        u = u if u < top else top
        rows[i] = np.uint32(np.int32(u))
        position[i] = u - np.int32(u)


@_jit
def _exp_float32(x: Any) -> Any:
    """e^x for x in -87 … 88 to 2e-7 relative, without a call, so that loops over it become vector code (Cephes' expf)."""
    n = np.floor(x * np.float32(1.44269504) + np.float32(0.5))
    r = x - n * np.float32(0.693359375)
    r = r + n * np.float32(2.12194440e-4)
    p = np.float32(1.9875691500e-4)
    p = p * r + np.float32(1.3981999507e-3)
    p = p * r + np.float32(8.3334519073e-3)
    p = p * r + np.float32(4.1665795894e-2)
    p = p * r + np.float32(1.6666665459e-1)
    p = p * r + np.float32(5.0000001201e-1)
    power = np.int32((np.int32(n) + np.int32(127)) << np.int32(23)).view(np.float32)
    return (p * (r * r) + r + np.float32(1)) * power


@_jit
def _silu(x: Any, value: Any, slope: Any) -> None:
    one, limit = np.float32(1), np.float32(88)
    for i in range(x.size):
        v = -x[i]
        v = v if v < limit else limit
        v = v if v > np.float32(-87) else np.float32(-87)
        s = one / (one + _exp_float32(v)) if v < limit else np.float32(0)  # else x·s grows again for a huge negative x
        value[i] = x[i] * s
        slope[i] = s * (one + x[i] * (one - s))


@_jit
def _silu_float64(x: Any, value: Any, slope: Any) -> None:
    for i in range(x.size):
        s = 1 / (1 + math.exp(-x[i]))
        value[i] = x[i] * s
        slope[i] = s * (1 + x[i] * (1 - s))


@_jit
def _relu(x: Any, value: Any, slope: Any) -> None:
    for i in range(x.size):
        value[i], slope[i] = (0, 0) if x[i] <= 0 else (x[i], 1 if x[i] > 0 else x[i])  # NaN stays NaN


@_jit
def _leaky_relu(parameter: Any, x: Any, value: Any, slope: Any) -> None:
    for i in range(x.size):
        value[i], slope[i] = (parameter * x[i], parameter) if x[i] <= 0 else (x[i], 1 if x[i] > 0 else x[i])


@_jit
def _base(kind: int, parameter: Any, x: Any, value: Any, slope: Any) -> None:
    """Base activation and its derivative; the kinds are those of ``BASE_KINDS``, the parameter that of "leaky_relu"."""
    if kind == 0 and x.itemsize == 4:
        _silu(x, value, slope)
    elif kind == 0:
        _silu_float64(x, value, slope)
    elif kind == 1:
        for i in range(x.size):
            value[i], slope[i] = x[i], 1
    elif kind == 2:
        _relu(x, value, slope)
    elif kind == 3:
        for i in range(x.size):
            cumulative = 0.5 * (1 + math.erf(x[i] * 0.7071067811865476))
            value[i] = x[i] * cumulative
            slope[i] = cumulative + x[i] * math.exp(-0.5 * x[i] * x[i]) * 0.3989422804014327
    elif kind == 5:
        _leaky_relu(parameter, x, value, slope)
    else:
        for i in range(x.size):
            t = math.tanh(x[i])
            value[i], slope[i] = t, 1 - t * t


@_jit
def forward(part: Any, kind: int, parameter: Any, x: Any, tables: Any, weights: Any, grid: Any, out: Any) -> None:
    """φ of the part (first and last segment, first and last column) of x."""
    first, last, left, right = part
    rows, position = np.empty(_RUN, np.uint32), np.empty(_RUN, x.dtype)
    base, slope = np.empty(_RUN, x.dtype), np.empty(_RUN, x.dtype)
    for s in range(first, last):
        j = s % weights.shape[0]
        for start in range(left, right, _RUN):
            end = min(start + _RUN, right)
            xs = x[s, start:end]
            _locate(xs, grid, rows, position)
            _base(kind, parameter, xs, base, slope)
            for r in range(weights.shape[1]):
                c0, c1, c2, c3, w = tables[j, r, 0], tables[j, r, 1], tables[j, r, 2], tables[j, r, 3], weights[j, r]
                ys = out[s, r, start:end]
                for i in range(xs.size):
                    n, t = rows[i], position[i]
                    ys[i] = ((c3[n] * t + c2[n]) * t + c1[n]) * t + c0[n] + w * base[i]


@_jit_sums
def backward(
    part: Any, kind: int, parameter: Any, g: Any, x: Any, tables: Any, weights: Any, grid: Any, exact: bool, out: Any
) -> Any:
    """Gradient of the part of x into ``out``.

    Returns sums (J, R, rows + 1, 4) in float64: the moments Σ g t^p of every interval, and in the last row Σ g b.
    """
    first, last, left, right = part
    zero, scale, end_row = grid[2] - grid[2], grid[0], tables.shape[3]
    sums = np.zeros((*weights.shape, end_row + 1, 4))
    local = np.zeros((end_row + 1, 4), x.dtype)
    rows, position = np.empty(_RUN, np.uint32), np.empty(_RUN, x.dtype)
    base, slope = np.empty(_RUN, x.dtype), np.empty(_RUN, x.dtype)
    for s in range(first, last):
        j = s % weights.shape[0]
        for start in range(left, right, _RUN):
            end = min(start + _RUN, right)
            xs, ys = x[s, start:end], out[s, start:end]
            _locate(xs, grid, rows, position)
            _base(kind, parameter, xs, base, slope)
            ys[:] = zero
            for r in range(weights.shape[1]):
                c1, c2, c3, w = tables[j, r, 1], tables[j, r, 2] * 2, tables[j, r, 3] * 3, weights[j, r]
                gs, total = g[s, r, start:end], zero
                for i in range(xs.size):
                    n, t = rows[i], position[i]
                    spline = scale * ((c3[n] * t + c2[n]) * t + c1[n]) if exact else zero
                    ys[i] += gs[i] * (w * slope[i] + spline)
                    total += gs[i] * base[i]
                local[:] = zero
                local[end_row, 0] = total
                _moments(rows, position, gs, local)
                sums[j, r] += local
    return sums


@_jit_sums
def _moments(rows: Any, position: Any, g: Any, sums: Any) -> None:
    """Adds g, g t, g t² and g t³ to the row of every element."""
    for i in range(g.size):
        a, value, t = sums[rows[i]], g[i], position[i]
        a[0] += value
        a[1] += value * t
        a[2] += value * (t * t)
        a[3] += value * (t * t * t)
