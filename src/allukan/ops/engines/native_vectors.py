"""Four elements at once: the look-ups of ``native_elements`` as vector instructions, which the compiler does not find by itself.

The four coefficients of a row lie side by side, so a row is one load of 128 bits, and four rows are transposed in registers
instead of being gathered number by number: half the time of the plain loop. Written in LLVM's portable vectors for any processor.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

LANES = 4
_I64, _FLOAT = ir.IntType(64), ir.FloatType()
_VECTOR = ir.VectorType(_FLOAT, LANES)
_FUSE = ("contract",)  # a product and a sum may become one instruction


def _operation(emit: Callable[..., None]) -> Any:
    """Hands the memory of every array, and the index, to ``emit``."""

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> Any:
        arrays = zip(signature.args[:-1], args[:-1], strict=True)
        data = [context.make_array(kind)(context, builder, value).data for kind, value in arrays]
        emit(builder, *data, args[-1])
        return context.get_dummy_value()

    return codegen


def _at(b: ir.IRBuilder, base: Any, index: Any) -> Any:
    return b.bitcast(b.gep(base, [index]), _VECTOR.as_pointer())


def _load(b: ir.IRBuilder, base: Any, index: Any) -> Any:
    return b.load(_at(b, base, index), align=4)


def _row_starts(b: ir.IRBuilder, rows: Any, i: Any) -> list[Any]:
    """Where the rows of elements i … i + 3 begin in an array ``(rows, 4)``."""
    numbers = [b.load(b.gep(rows, [b.add(i, ir.Constant(_I64, k))])) for k in range(LANES)]
    return [b.shl(b.zext(number, _I64), ir.Constant(_I64, 2)) for number in numbers]


def _transpose(b: ir.IRBuilder, v: list[Any]) -> list[Any]:
    def shuffle(x: Any, y: Any, *order: int) -> Any:
        return b.shuffle_vector(x, y, ir.Constant(ir.VectorType(ir.IntType(32), LANES), list(order)))

    low, high = [shuffle(v[k], v[k + 1], 0, 4, 1, 5) for k in (0, 2)], [shuffle(v[k], v[k + 1], 2, 6, 3, 7) for k in (0, 2)]
    return [shuffle(*pair, *order) for pair in (low, high) for order in ((0, 1, 4, 5), (2, 3, 6, 7))]


def _multiply_add(b: ir.IRBuilder, x: Any, y: Any, z: Any) -> Any:
    return b.fadd(b.fmul(x, y, flags=_FUSE), z, flags=_FUSE)


def _emit_cubic(b: ir.IRBuilder, table: Any, rows: Any, position: Any, out: Any, i: Any) -> None:
    c = _transpose(b, [_load(b, table, start) for start in _row_starts(b, rows, i)])
    t, value = _load(b, position, i), c[3]
    for p in (2, 1, 0):
        value = _multiply_add(b, value, t, c[p])
    b.store(value, _at(b, out, i), align=4)


def _emit_slope(b: ir.IRBuilder, table: Any, rows: Any, position: Any, g: Any, out: Any, i: Any) -> None:
    c = _transpose(b, [_load(b, table, start) for start in _row_starts(b, rows, i)])
    t, value = _load(b, position, i), c[2]
    for p in (1, 0):
        value = _multiply_add(b, value, t, c[p])
    b.store(_multiply_add(b, value, _load(b, g, i), _load(b, out, i)), _at(b, out, i), align=4)


def _emit_moments(b: ir.IRBuilder, moments: Any, rows: Any, position: Any, g: Any, i: Any) -> None:
    t, powers = _load(b, position, i), [_load(b, g, i)]
    for _ in range(3):
        powers.append(b.fmul(powers[-1], t))
    for start, value in zip(_row_starts(b, rows, i), _transpose(b, powers), strict=True):
        b.store(b.fadd(_load(b, moments, start), value), _at(b, moments, start), align=4)


@intrinsic
def cubic(typingctx: Any, table: Any, rows: Any, position: Any, out: Any, i: Any) -> Any:
    """out[i] = Σ_p table[rows[i], p] position[i]^p for i … i + 3."""
    return types.void(table, rows, position, out, types.int64), _operation(_emit_cubic)


@intrinsic
def add_slope(typingctx: Any, table: Any, rows: Any, position: Any, g: Any, out: Any, i: Any) -> Any:
    """out[i] += g[i] Σ_{p < 3} table[rows[i], p] position[i]^p for i … i + 3."""
    return types.void(table, rows, position, g, out, types.int64), _operation(_emit_slope)


@intrinsic
def add_moments(typingctx: Any, moments: Any, rows: Any, position: Any, g: Any, i: Any) -> Any:
    """moments[rows[i], p] += g[i] position[i]^p for i … i + 3, one after the other."""
    return types.void(moments, rows, position, g, types.int64), _operation(_emit_moments)
