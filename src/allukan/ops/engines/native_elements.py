"""What ``native_kernels`` does with a run of elements: locate, look up, differentiate, and gather the gradients of a table.

All in the part of Python that numba compiles. ``curves`` are base, local, begin and the first alive row of ``Curves``.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from allukan.ops.engines.native_cache import compiled
from allukan.ops.engines.native_vectors import LANES, add_moments, add_slope, cubic

# entries are called from Python and from C, the others from compiled code alone: wrappers would be compiled for nothing
entry = partial(compiled, nogil=True, error_model="numpy", fastmath={"nsz", "contract", "arcp"})
jit = partial(entry, no_cpython_wrapper=True, no_cfunc_wrapper=True)
jit_sums = partial(jit, fastmath={"nsz", "contract", "arcp", "reassoc"})


@intrinsic
def pointer(typingctx: Any, address: Any) -> Any:
    """An address as a pointer that ``carray`` takes."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.inttoptr(args[0], ir.IntType(8).as_pointer())

    return types.voidptr(types.int64), codegen


@jit
def copy(values: Any, out: Any) -> None:
    """``out[:] = values``, for which numba would also compile the words of an error that cannot happen, for two seconds."""
    for i in range(out.size):
        out[i] = values[i]


@jit
def locate(x: Any, grid: Any, rows: Any, position: Any) -> bool:
    """Row of the table and position in it of every x; NaN goes to row 0, its position carries it on.

    True when a straight part of the base (``_add_line``) is needed: somewhere x lies beyond the curved part, or there is none.
    """
    outside = grid[4] <= grid[5]
    scale, shift, first, last = grid[0], grid[1], grid[2], grid[3]
    zero, one = np.float32(0), np.float32(1)
    for i in range(x.size):
        u = x[i] * scale + shift
        row = np.floor(u)
        row = row if row > first else first
        row = row if row < last else last
        t = u - row
        t = zero if t < zero else t
        position[i] = one if t > one else t
        rows[i] = np.uint32(np.int32(row - first))
        outside |= (row == first) | (row == last)
    return outside


@jit
def fill(curves: Any, weight: Any, coef: Any, out: Any) -> None:
    """φ of one activation, ``(rows, 4)``; ``curves`` are base, local, begin and the first alive row (``Curves``)."""
    base, local, begin, first = curves
    for row in range(out.shape[0]):
        for p in range(4):
            out[row, p] = weight * base[row, p]
    for row in range(local.shape[0]):
        for q in range(local.shape[1]):
            c = coef[begin[row] + q]
            for p in range(4):
                out[first + row, p] += c * local[row, q, p]


@jit
def fill_slopes(curves: Any, scale: Any, weight: Any, coef: Any, exact: bool, out: Any) -> None:
    """φ' of one activation; without ``exact`` that of its base branch."""
    base, local, begin, first = curves
    for row in range(out.shape[0]):
        for p in range(3):
            out[row, p] = weight * base[row, p + 1]
    if exact:
        for row in range(local.shape[0]):
            for q in range(local.shape[1]):
                c = coef[begin[row] + q]
                for p in range(3):
                    out[first + row, p] += c * local[row, q, p + 1]
    for row in range(out.shape[0]):
        for p in range(3):
            out[row, p] *= np.float32(p + 1) * scale


@jit_sums
def _product(x: Any, y: Any) -> float:
    """Σ x y in float64."""
    total = 0.0
    for i in range(x.size):
        total += np.float64(x[i]) * np.float64(y[i])
    return total


@jit
def fold(moments: Any, curves: Any, sums: Any) -> None:
    """Adjoint of ``fill``: adds to sums ``(1 + M,)``, the gradients of weight and coefficients, and clears the moments."""
    base, local, begin, first = curves
    sums[0] += _product(moments.reshape(moments.size), base.reshape(base.size))
    for row in range(local.shape[0]):
        for q in range(local.shape[1]):
            total = 0.0
            for p in range(4):
                total += np.float64(moments[first + row, p]) * local[row, q, p]
            sums[begin[row] + q + 1] += total
    moments[:] = 0


@jit
def look_up(table: Any, rows: Any, position: Any, out: Any) -> None:
    """φ of every element."""
    whole = out.size - out.size % LANES
    for i in range(0, whole, LANES):
        cubic(table, rows, position, out, i)
    for i in range(whole, out.size):
        row, t = rows[i], position[i]
        out[i] = ((table[row, 3] * t + table[row, 2]) * t + table[row, 1]) * t + table[row, 0]


@jit
def add_slopes(table: Any, rows: Any, position: Any, g: Any, out: Any) -> None:
    """Adds g φ'."""
    whole = out.size - out.size % LANES
    for i in range(0, whole, LANES):
        add_slope(table, rows, position, g, out, i)
    for i in range(whole, out.size):
        row, t = rows[i], position[i]
        out[i] += g[i] * ((table[row, 2] * t + table[row, 1]) * t + table[row, 0])


@jit
def collect_moments(rows: Any, position: Any, g: Any, moments: Any) -> None:
    """Adds g, g t, g t² and g t³ to the row of every element."""
    whole = g.size - g.size % LANES
    for i in range(0, whole, LANES):
        add_moments(moments, rows, position, g, i)
    for i in range(whole, g.size):
        row, t, value = rows[i], position[i], g[i]
        for p in range(4):
            moments[row, p] += value
            value *= t


@jit
def _add_line(x: Any, border: Any, slope: Any, right: bool, out: Any) -> None:
    """The straight part of the base right (or left) of a border."""
    zero = np.float32(0)
    for i in range(x.size):
        d = x[i] - border
        outside = zero if (d < zero if right else d > zero) else d  # NaN stays
        out[i] += slope * outside


@jit
def add_lines(x: Any, grid: Any, weight: Any, out: Any) -> None:
    """Both straight parts of w b, where they are not zero."""
    if grid[6] != 0:
        _add_line(x, grid[4], weight * grid[6], True, out)
    if grid[7] != 0:
        _add_line(x, grid[5], weight * grid[7], False, out)


@jit_sums
def _add_line_slope(x: Any, g: Any, border: Any, slope: Any, weight: Any, right: bool, out: Any) -> Any:
    """The same for the gradient; returns Σ g b of this part."""
    total, zero = np.float32(0), np.float32(0)
    for i in range(x.size):
        d = x[i] - border
        outside = (d > zero) if right else (d <= zero)
        out[i] += g[i] * weight * slope if outside else zero
        total += g[i] * slope * d if outside else zero
    return total


@jit
def add_line_slopes(x: Any, g: Any, grid: Any, weight: Any, out: Any) -> Any:
    """The same for the gradient, both parts; returns their Σ g b."""
    total = np.float32(0)
    if grid[6] != 0:
        total += _add_line_slope(x, g, grid[4], grid[6], weight, True, out)
    if grid[7] != 0:
        total += _add_line_slope(x, g, grid[5], grid[7], weight, False, out)
    return total


@jit
def _cubic(c: Any, t: Any) -> Any:
    return ((c[3] * t + c[2]) * t + c[1]) * t + c[0]


@jit
def _slope(c: Any, t: Any) -> Any:
    return (np.float32(3) * c[3] * t + np.float32(2) * c[2]) * t + c[1]


@jit
def evaluate_directly(curves: Any, weight: Any, coef: Any, rows: Any, position: Any, out: Any) -> None:
    """φ without a table of its own, for activations that meet too few elements to make one."""
    base, local, begin, first = curves
    for i in range(out.size):
        row, t = np.int64(rows[i]), position[i]
        value = weight * _cubic(base[row], t)
        if first <= row < first + local.shape[0]:
            for q in range(local.shape[1]):
                value += coef[begin[row - first] + q] * _cubic(local[row - first, q], t)
        out[i] = value


@jit
def differentiate_directly(
    curves: Any, scale: Any, weight: Any, coef: Any, exact: bool, rows: Any, position: Any, g: Any, sums: Any, out: Any
) -> None:
    """Adds g φ' to out and the gradients of weight and coefficients to sums, without a table likewise."""
    base, local, begin, first = curves
    for i in range(out.size):
        row, t = np.int64(rows[i]), position[i]
        slope = weight * _slope(base[row], t)
        sums[0] += g[i] * _cubic(base[row], t)
        if first <= row < first + local.shape[0]:
            for q in range(local.shape[1]):
                m = begin[row - first] + q
                sums[m + 1] += g[i] * _cubic(local[row - first, q], t)
                if exact:
                    slope += coef[m] * _slope(local[row - first, q], t)
        out[i] += g[i] * scale * slope
