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
from allukan.ops.engines import layout, triton_norm, triton_tiles
from allukan.ops.engines import triton_channels as channel_kernels
from allukan.ops.engines import triton_kernels as kernels
from allukan.ops.engines.layout import Gradients, Three
from allukan.ops.engines.triton_tiles import LAUNCH, THREADS, accurate
from allukan.ops.normalise import Affine
from allukan.ops.phi import Phi

CHANNELS_LAST = True  # short blocks of channels are read as fast as long ones
NORM = triton_norm
INTERPRETED = bool(triton.knobs.runtime.interpret)  # TRITON_INTERPRET=1 was set: the kernels run in numpy, on the CPU
BASE_KINDS = (
    *("silu", "identity", "relu", "leaky_relu", "gelu", "tanh"),
    *("relu6", "hardtanh", "hardswish", "elu", "mish", "softplus", "sigmoid"),
)
_FORWARD_TILE = 1024  # elements of a tile: 8 a thread, 16-byte loads in half precision
_REGISTERS = 64  # for sums, a thread
_FORWARD_PROGRAMS, _BACKWARD_PROGRAMS = 16, 8  # a multiprocessor
_SPAN = 16  # basis functions a program sums where not all of them fit
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


def forward(x: Tensor, coef: Tensor, base_weight: Tensor, phi: Phi, to: Affine | None = None) -> Tensor:
    """φ(x), ``(B, C, *S)`` → ``(B, A·C/J, *S)``."""
    if to is None or not x.numel():
        return layout.forward(_forward, x, coef, base_weight, phi, to, CHANNELS_LAST)
    return _forward_of_channels(x, coef, base_weight, phi, to)


def backward(grad: Tensor, x: Tensor, coef: Tensor, base_weight: Tensor, phi: Phi, to: Affine | None = None) -> Gradients:
    """Gradients of ``forward`` for x, coef and base_weight, from the inputs alone."""
    if to is None or not x.numel():
        return layout.backward(_backward, grad, x, coef, base_weight, phi, to, CHANNELS_LAST)
    return _backward_of_channels(grad, x, coef, base_weight, phi, to)


def _forward(x: Tensor, coef: Tensor, base_weight: Tensor, phi: Phi) -> Tensor:
    """x ``(B, J, N)``, coef ``(J, R, M)``, base_weight ``(J, R)`` → ``(B, J, R, N)``."""
    (outer, blocks, length), each = x.shape, coef.shape[1]
    out = x.new_empty(outer, blocks, each, length)
    shape = triton_tiles.flat(x, coef, _FORWARD_TILE)
    workers = triton_tiles.workers(x, shape, _FORWARD_PROGRAMS)
    tensors = x.contiguous(), coef.contiguous(), base_weight.contiguous(), out
    _run_forward(kernels.forward_kernel, tensors, (outer, length), coef, phi, workers, shape)
    return out


def _forward_of_channels(x: Tensor, coef: Tensor, base_weight: Tensor, phi: Phi, to: Affine) -> Tensor:
    """φ(scale·x + shift) of whole tensors."""
    (x, last), each = layout.in_lines(x, phi.blocks), len(coef) // phi.blocks
    out = layout.output_like(x, coef, phi.blocks, CHANNELS_LAST)
    lines = triton_tiles.lines(x, phi.blocks, each, last, _FORWARD_TILE, _FORWARD_PROGRAMS)
    coef = coef.unflatten(0, (phi.blocks, each)).contiguous()
    tensors = x, coef, base_weight.contiguous(), *to.numbers.contiguous()[:2].unbind(), out
    sizes = *lines.sizes, _own(to), lines.steps
    _run_forward(channel_kernels.channel_forward_kernel, tensors, sizes, coef, phi, lines.workers, lines.shape)
    return out


def _run_forward(kernel: Any, tensors: tuple, sizes: tuple, coef: Tensor, phi: Phi, workers: int, shape: dict[str, Any]) -> None:
    x, (blocks, each, _), grid = tensors[0], coef.shape, _grid(coef, phi)
    tables = x.new_empty(workers * blocks * each * (phi.spline_order + 1) * grid["ROWS"], dtype=accurate(x))
    with torch.cuda.device_of(x):
        kernel[blocks, workers](*tensors, tables, *sizes, POLY=bspline.polynomials(phi.spline_order), **grid, **shape, **LAUNCH)


def _backward(grad: Tensor, x: Tensor, coef: Tensor, base_weight: Tensor, phi: Phi) -> Three:
    """Its gradients, from grad ``(B, J, R, N)``."""
    shape = triton_tiles.flat(x, coef, _backward_tile(coef))
    workers = triton_tiles.workers(x, shape, _BACKWARD_PROGRAMS)
    grad_x = torch.empty_like(x, memory_format=torch.contiguous_format)
    tensors = *(t.contiguous() for t in (grad, x, coef, base_weight)), grad_x
    sizes = x.shape[0], x.shape[2]
    return grad_x, *_run_backward(kernels.backward_kernel, tensors, sizes, phi, workers, shape)


def _backward_of_channels(grad: Tensor, x: Tensor, coef: Tensor, base_weight: Tensor, phi: Phi, to: Affine) -> Gradients:
    """The gradients of whole tensors, that of scale·x + shift and its sums a line among them."""
    x, last = layout.in_lines(x, phi.blocks)
    grad = grad.movedim(1, -1).contiguous() if last else grad.contiguous()
    coef = coef.unflatten(0, (phi.blocks, -1)).contiguous()
    lines = triton_tiles.lines(x, phi.blocks, coef.shape[1], last, _backward_tile(coef), _BACKWARD_PROGRAMS)
    grad_x, sums = torch.empty_like(x), x.new_empty(lines.runs, x.shape[0] * x.shape[1], 2, dtype=accurate(x))
    tensors = grad, x, coef, base_weight.contiguous(), *to.numbers.contiguous().unbind(), grad_x, sums
    sizes = *lines.sizes, _own(to), lines.steps
    kernel = channel_kernels.channel_backward_kernel
    grad_coef, grad_weight = _run_backward(kernel, tensors, sizes, phi, lines.workers, lines.shape)
    return grad_x, grad_coef.flatten(0, 1), grad_weight.flatten(), sums


def _backward_tile(coef: Tensor) -> int:
    """Elements of a tile whose sums fit into registers."""
    _, each, count = coef.shape
    return THREADS * max(1, min(4, _REGISTERS // (each * count)))


def _run_backward(
    kernel: Any, tensors: tuple, sizes: tuple, phi: Phi, workers: int, shape: dict[str, Any]
) -> tuple[Tensor, Tensor]:
    """Fills what ``tensors`` has room for; returns the gradients of coef ``(J, R, M)`` and base_weight."""
    x, coef, base_weight = tensors[1:4]
    (blocks, each, count), grid = coef.shape, _grid(coef, phi)
    tables = x.new_empty(workers * blocks * each * phi.spline_order * grid["ROWS"] if phi.exact else 1, dtype=accurate(x))
    partials = x.new_empty(workers, blocks * each, count + 1, dtype=accurate(x))
    grad_coef, grad_weight = torch.empty_like(coef), torch.empty_like(base_weight)
    arguments = *tensors, tables, partials, *sizes
    slopes = _slopes(phi.spline_order, grid["SCALE"])
    options = {"PIECES": bspline.polynomials(phi.spline_order), "SLOPES": slopes, "EXACT": phi.exact, **grid, **shape, **LAUNCH}
    with torch.cuda.device_of(x):
        if each * count <= _REGISTERS // 2:
            kernel[blocks, workers, 1](*arguments, INPUT=True, SPAN=count, R_SPAN=each, **options)
        else:
            span = min(_SPAN, count + count % 2)
            parts = each * triton_tiles.cdiv(count, span)
            kernel[blocks, workers, 1](*arguments, INPUT=True, SPAN=0, R_SPAN=each, **options)
            kernel[blocks, workers, parts](*arguments, INPUT=False, SPAN=span, R_SPAN=1, **options)
        columns = triton_tiles.next_power_of_2(count + 1)
        kernels.sum_kernel[blocks * each,](
            partials, grad_coef, grad_weight, workers, count, columns, max(1, 2048 // columns), **LAUNCH
        )
    return grad_coef, grad_weight


def _own(to: Affine) -> int:
    """From the numbers of a sample to the next one's; 0 where all have the same."""
    _, rows, channels = to.numbers.shape
    return channels if rows > 1 else 0


def _grid(coef: Tensor, phi: Phi) -> dict[str, Any]:
    """What the kernels know of the spline when they are compiled."""
    (size, order, (lo, hi)), (_, each, count) = phi.grid, coef.shape
    scale = size / (hi - lo)
    kind, leak = split_base(phi.base)
    spline = {"R": each, "M": count, "K": order, "ROWS": triton_tiles.next_power_of_2(count + order + 2)}
    position = {"SCALE": scale, "SHIFT": order + 1 - lo * scale, "TOP": size + 2 * order + 1.5}
    return {**spline, **position, "BASE": kind, "LEAK": leak}


@cache
def _slopes(order: int, scale: float) -> Pieces:
    """The derivatives of the pieces with respect to x."""
    return tuple(tuple(p * piece[p] * scale for p in range(1, order + 1)) for piece in bspline.polynomials(order))
