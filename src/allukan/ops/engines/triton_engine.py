"""Forward and backward for CUDA as Triton kernels: one pass over the data each, no atomics, the same bits in every run.

Sums of the coefficient gradient stay in registers while a bounded number of programs walks over the data; each writes its
M + 1 sums once, and a second kernel of one program an activation adds these up. Nothing waits for the host, so CUDA graphs may
record it. Any spline order; arithmetic in float32, in float64 for float64.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
import triton
from torch import Tensor

from allukan.ops import bspline
from allukan.ops.activations import split_base
from allukan.ops.engines import layout
from allukan.ops.engines import triton_kernels as kernels
from allukan.ops.engines.layout import Gradients
from allukan.ops.phi import Phi

CHANNELS_LAST = True  # short blocks of channels are read as fast as long ones
INTERPRETED = bool(triton.knobs.runtime.interpret)  # TRITON_INTERPRET=1 was set: the kernels run in numpy, on the CPU
BASE_KINDS = ("silu", "identity", "relu", "leaky_relu", "gelu", "tanh")
WIDE_FROM = 1 << 31  # elements from which 32-bit offsets do not reach
_FORWARD_TILE = 1024  # elements of a tile: 8 a thread, 16-byte loads in half precision
_REGISTERS = 64  # for sums, a thread
_THREADS = 128
_SPAN = 16  # basis functions a program sums where not all of them fit
_LAUNCH = {"num_warps": _THREADS // 32, "enable_fp_fusion": True}
Pieces = tuple[tuple[float, ...], ...]


def obstacle(phi: Phi, device: str, dtype: torch.dtype) -> str | None:
    """What these kernels cannot compute."""
    if phi.expanded:
        return "it has no kernel for the expanded basis (sharing 'output' and 'edge'): choose 'auto' or 'eager'"
    if INTERPRETED and device != "cpu":
        return f"TRITON_INTERPRET is set, which is for tensors on a CPU, and x is on {device}"
    if not INTERPRETED and device != "cuda":
        hint = "TRITON_INTERPRET=1, set before the start, lets a CPU interpret it, slowly"
        return f"it runs on CUDA and x is on {device}; {hint}"
    if phi.basis != "bspline":
        return f"it has no basis {phi.basis!r}, only 'bspline'"
    if split_base(phi.base)[0] not in BASE_KINDS:
        return f"it has no base activation {phi.base!r}"
    return None


def forward(x: Tensor, coef: Tensor, base_weight: Tensor, phi: Phi) -> Tensor:
    """φ(x), ``(B, C, *S)`` → ``(B, A·C/J, *S)``."""
    return layout.forward(_forward, x, coef, base_weight, phi, CHANNELS_LAST)


def backward(grad: Tensor, x: Tensor, coef: Tensor, base_weight: Tensor, phi: Phi) -> Gradients:
    """Gradients of ``forward`` for x, coef and base_weight, from the inputs alone."""
    return layout.backward(_backward, grad, x, coef, base_weight, phi, CHANNELS_LAST)


def _forward(x: Tensor, coef: Tensor, base_weight: Tensor, phi: Phi) -> Tensor:
    """x ``(B, J, N)``, coef ``(J, R, M)``, base_weight ``(J, R)`` → ``(B, J, R, N)``."""
    (outer, blocks, length), each = x.shape, coef.shape[1]
    out = x.new_empty(outer, blocks, each, length)
    shape = _shape(x, coef, _FORWARD_TILE)
    grid = _grid(coef, phi)
    workers = _workers(x, shape, programs=16)
    tables = x.new_empty(workers * blocks * each * (phi.spline_order + 1) * grid["ROWS"], dtype=_wide(x))
    with torch.cuda.device_of(x):
        kernels.forward_kernel[blocks, workers](
            x.contiguous(),
            coef.contiguous(),
            base_weight.contiguous(),
            out,
            tables,
            outer,
            length,
            POLY=_pieces(phi.spline_order),
            **grid,
            **shape,
            **_LAUNCH,
        )
    return out


def _backward(grad: Tensor, x: Tensor, coef: Tensor, base_weight: Tensor, phi: Phi) -> Gradients:
    """Its gradients, from grad ``(B, J, R, N)``."""
    blocks, each, count = coef.shape
    per_thread = max(1, min(4, _REGISTERS // (each * count)))
    shape, grid = _shape(x, coef, _THREADS * per_thread), _grid(coef, phi)
    workers = _workers(x, shape, programs=8)
    tables = x.new_empty(workers * blocks * each * phi.spline_order * grid["ROWS"] if phi.exact else 1, dtype=_wide(x))
    partials = x.new_empty(workers, blocks * each, count + 1, dtype=_wide(x))
    grad_x = torch.empty_like(x, memory_format=torch.contiguous_format)
    grad_coef, grad_weight = torch.empty_like(coef), torch.empty_like(base_weight)
    tensors = *(t.contiguous() for t in (grad, x, coef, base_weight)), grad_x, tables, partials, x.shape[0], x.shape[2]
    slopes = _slopes(phi.spline_order, grid["SCALE"])
    options = {"PIECES": _pieces(phi.spline_order), "SLOPES": slopes, "EXACT": phi.exact, **grid, **shape, **_LAUNCH}
    with torch.cuda.device_of(x):
        if each * count <= _REGISTERS // 2:
            kernels.backward_kernel[blocks, workers, 1](*tensors, INPUT=True, SPAN=count, R_SPAN=each, **options)
        else:
            span = min(_SPAN, count + count % 2)
            parts = each * triton.cdiv(count, span)
            kernels.backward_kernel[blocks, workers, 1](*tensors, INPUT=True, SPAN=0, R_SPAN=each, **options)
            kernels.backward_kernel[blocks, workers, parts](*tensors, INPUT=False, SPAN=span, R_SPAN=1, **options)
        columns = triton.next_power_of_2(count + 1)
        kernels.sum_kernel[blocks * each,](
            partials, grad_coef, grad_weight, workers, count, columns, max(1, 2048 // columns), **_LAUNCH
        )
    return grad_x, grad_coef, grad_weight


def _wide(x: Tensor) -> torch.dtype:
    return torch.promote_types(x.dtype, torch.float32)


def _grid(coef: Tensor, phi: Phi) -> dict[str, Any]:
    """What the kernels know of the spline when they are compiled."""
    (size, order, (lo, hi)), (_, each, count) = phi.grid, coef.shape
    scale = size / (hi - lo)
    kind, leak = split_base(phi.base)
    spline = {"R": each, "M": count, "K": order, "ROWS": triton.next_power_of_2(count + order + 2)}
    position = {"SCALE": scale, "SHIFT": order + 1 - lo * scale, "TOP": size + 2 * order + 1.5}
    return {**spline, **position, "BASE": kind, "LEAK": leak}


def _shape(x: Tensor, coef: Tensor, tile: int) -> dict[str, Any]:
    """Rows and columns of a tile of ``(B, ·, N)``; 64-bit offsets only where 32 bits do not reach."""
    columns = min(tile, triton.next_power_of_2(x.shape[2]))
    wide = x.numel() * coef.shape[1] + tile >= WIDE_FROM
    return {"TILE_ROWS": tile // columns, "COLS": columns, "FLAT": x.shape[0] == 1, "WIDE": wide}


def _workers(x: Tensor, shape: dict[str, Any], programs: int) -> int:
    """Programs for a block of channels: ``programs`` a multiprocessor in all, never more than there are tiles."""
    tiles = triton.cdiv(x.shape[0], shape["TILE_ROWS"]) * triton.cdiv(x.shape[2], shape["COLS"])
    return max(1, min(tiles, programs * _multiprocessors(x.device) // x.shape[1]))


@cache
def _multiprocessors(device: torch.device) -> int:
    return torch.cuda.get_device_properties(device).multi_processor_count if device.type == "cuda" else 1


@cache
def _pieces(order: int) -> Pieces:
    return tuple(tuple(piece) for piece in bspline.pieces(order, device=torch.device("cpu")).tolist())


@cache
def _slopes(order: int, scale: float) -> Pieces:
    """The derivatives of the pieces with respect to x."""
    return tuple(tuple(p * piece[p] * scale for p in range(1, order + 1)) for piece in _pieces(order))
