"""The one place that chooses an implementation of the shared spline."""

from __future__ import annotations

import logging
from functools import cache

import torch
from torch import Tensor

from allukan.ops.autograd import remembered
from allukan.ops.bases import base_function, split_base
from allukan.ops.basis import family
from allukan.ops.bspline import GridRange, check_grid
from allukan.ops.shared_spline.aten import shared_spline_aten
from allukan.ops.shared_spline.curves import MAX_ROWS, rows_needed
from allukan.ops.shared_spline.engines import ENGINES, MAX_NATIVE_ORDER, UNAVAILABLE
from allukan.ops.shared_spline.function import SharedSpline, transformable_spline
from allukan.ops.shared_spline.library import shared_spline_op
from allukan.ops.shared_spline.reference import shared_spline_reference
from allukan.ops.subclasses import through_subclasses
from allukan.ops.tracing import recorded, refuse_classic_onnx, sees_operators, sizes, transforms

IMPLEMENTATIONS = ("auto", "reference", "eager", "native", "triton", "aten")
INPUT_GRADS = ("exact", "free")
COMPOSED = {"reference": shared_spline_reference, "aten": shared_spline_aten}  # of differentiable operators
_FASTEST = {"cpu": "native", "cuda": "triton"}


@through_subclasses
def shared_spline(
    x: Tensor,
    coef: Tensor,
    base_weight: Tensor,
    grid_range: GridRange = (-1.0, 1.0),
    spline_order: int = 3,
    *,
    basis: str = "bspline",
    base: str = "silu",
    input_grad: str = "exact",
    blocks: int = 1,
    impl: str = "auto",
) -> Tensor:
    """φ_a(x) = w_a b(x) + Σ_m c_am B_m(x), every channel through ``A / blocks`` shared activations.

    The channels fall into ``blocks`` equal runs; run j meets the activations ``j·A/blocks … (j+1)·A/blocks - 1``. The output
    channels are ordered run, activation, channel of the run: what a convolution with ``groups=A`` wants.

    Source: SaKAN and Grad-Free Spline of arXiv 2602.03156; mathematics in ``ops/shared_spline/README.md``.

    Args:
        x: ``(B, C, *S)``; any shape when ``A == 1``. Floating point; arithmetic is float32 (float64 for float64).
        coef: spline coefficients ``(A, M)`` with ``M = grid_size + spline_order``.
        base_weight: weights of the base activation ``(A,)``.
        grid_range: ``(lo, hi)``; outside it the spline runs out to zero within ``spline_order`` intervals, another basis as its
            file in ``ops.basis`` says.
        spline_order: polynomial degree, 1 or more; for another basis it only counts in M.
        basis: the functions B_m, "bspline" or another of ``ops.basis.FAMILIES``.
        base: "silu", "identity", "relu", "gelu", "tanh" or "leaky_relu:SLOPE" with a slope from 0 to below 1.
        input_grad: "exact", or "free" (Grad-Free Spline): x receives its gradient through the base activation only.
        blocks: runs of channels, a divisor of C and of A.
        impl: "auto" (the fastest that runs here), "native" (CPU and float32 arithmetic, compiled by numba), "triton" (CUDA),
            "eager" (closed form in torch, any device), "aten" (the same of torch's own operators only, differentiable any number
            of times; "auto" for whoever records it: ``torch.export``, ``torch.jit.trace``, ``make_fx``) or "reference"
            (Cox–de Boor and autograd, likewise).

    Returns:
        ``(B, A·C/blocks, *S)`` in x's dtype; x's own shape and memory format when ``A == 1`` ("triton" keeps
        channels-last for any A).

    Raises:
        ValueError: an option or a shape is not usable; the sentence says which.

    >>> import torch
    >>> shared_spline(torch.zeros(2, 3, 4, 4), torch.zeros(2, 8), torch.ones(2)).shape
    torch.Size([2, 6, 4, 4])
    """
    _check(x, coef, base_weight, grid_range, spline_order, input_grad, blocks)
    base_function(base)
    grid = (int(sizes(coef)[1]) - spline_order, spline_order, (grid_range[0], grid_range[1]))
    engine = choose(impl, x.device.type, x.dtype, *grid, basis, base)
    if engine in COMPOSED:
        return COMPOSED[engine](x, coef, base_weight, grid_range, spline_order, basis, base, input_grad, blocks)
    call = shared_spline_op if sees_operators() else transformable_spline if transforms() else SharedSpline.apply
    return call(x, coef, base_weight, *grid_range, spline_order, basis, base, input_grad == "exact", blocks, engine)


def choose(
    impl: str, device: str, dtype: torch.dtype, grid_size: int, order: int, grid_range: GridRange, basis: str, base: str
) -> str:
    """The engine for tensors of that device and type; one asked for by name is taken or refused, never replaced.

    Raises ``ValueError`` for a basis that does not exist, and with the reason when ``impl`` cannot run.

    >>> choose("auto", "cpu", torch.float64, 5, 3, (-3.0, 3.0), "bspline", "silu")
    'eager'
    """
    refuse_classic_onnx()  # whatever the engine
    if impl == "auto" and recorded():  # what is recorded runs where this package is not
        impl = "aten"
    return _chosen(impl, device, dtype, (grid_size, order, grid_range), basis, base)


@remembered
def _chosen(impl: str, device: str, dtype: torch.dtype, grid: tuple[int, int, GridRange], basis: str, base: str) -> str:
    if impl not in IMPLEMENTATIONS:
        raise ValueError(f"unknown impl {impl!r}; choose one of {', '.join(IMPLEMENTATIONS)}")
    family(basis)
    engine = _FASTEST.get(device, "eager") if impl == "auto" else impl
    reasons = _reasons_against(engine, device, dtype, grid, basis, base)
    if not reasons:
        return engine
    if impl != "auto":
        raise ValueError(f"impl={impl!r} cannot run: {reasons[0]}")
    if (device == "cuda" or engine in UNAVAILABLE) and not torch.compiler.is_compiling():
        _log_once(f"shared_spline runs as impl='eager', impl={engine!r} is faster but cannot run: {reasons[0]}")
    return "eager"


def available(x: Tensor, grid_size: int, spline_order: int, grid_range: GridRange, basis: str, base: str) -> list[str]:
    """The engines that run on x at full speed; Triton's interpreter is none.

    >>> available(torch.zeros(1), 5, 3, (-3.0, 3.0), "bspline", "silu")
    ['eager', 'native']
    """
    grid = (grid_size, spline_order, grid_range)
    able = [engine for engine in ENGINES if not _reasons_against(engine, x.device.type, x.dtype, grid, basis, base)]
    return [engine for engine in able if x.is_cuda or engine != "triton"]


def _reasons_against(
    engine: str, device: str, dtype: torch.dtype, grid: tuple[int, int, GridRange], basis: str, base: str
) -> list[str]:
    """Why the engine cannot compute this; empty when it can."""
    (size, order, ends), installed = grid, "triton" in ENGINES
    interpreted = installed and ENGINES["triton"].INTERPRETED
    hint = "TRITON_INTERPRET=1, set before the start, lets a CPU interpret it, slowly"
    too_steep = basis == "bspline" and order > MAX_NATIVE_ORDER
    too_wide = not too_steep and rows_needed(size, order, ends, basis, base) > MAX_ROWS
    obstacles = {
        "native": {
            UNAVAILABLE.get("native", ""): "native" in UNAVAILABLE,
            f"it runs on a CPU and x is on {device}": device != "cpu",
            f"it computes in float32 and x is {dtype}": dtype == torch.float64,
            f"spline_order {order} is above {MAX_NATIVE_ORDER}": too_steep,
            f"grid_range {ends} with {size} intervals would need a table of more than {MAX_ROWS} rows": too_wide,
        },
        "triton": {
            UNAVAILABLE.get("triton", ""): not installed,
            f"TRITON_INTERPRET is set, which is for tensors on a CPU, and x is on {device}": interpreted and device != "cpu",
            f"it runs on CUDA and x is on {device}; {hint}": not interpreted and device != "cuda",
            f"it has no basis {basis!r}, only 'bspline'": basis != "bspline",
            f"it has no base activation {base!r}": installed and split_base(base)[0] not in ENGINES["triton"].BASE_KINDS,
        },
    }
    return [reason for reason, holds in obstacles.get(engine, {}).items() if holds]


@cache
def _log_once(message: str) -> None:
    logging.getLogger("allukan").warning(message)


def _check(x: Tensor, coef: Tensor, base_weight: Tensor, grid_range: GridRange, order: int, input_grad: str, blocks: int) -> None:
    shape, (activations, *count), weights = sizes(x), sizes(coef) or (0,), sizes(base_weight)
    if len(count) != 1 or not activations or weights != (activations,):
        raise ValueError(f"coef must be (A, M) and base_weight (A,), got {tuple(sizes(coef))} and {tuple(weights)}")
    for name, tensor in (("x", x), ("coef", coef), ("base_weight", base_weight)):
        if not tensor.is_floating_point():
            raise ValueError(f"{name} must be floating point, got {tensor.dtype}")
        if tensor.device != x.device:
            raise ValueError(f"{name} is on {tensor.device} and x on {x.device}: move one of them")
    check_grid(count[0] - order, order, grid_range)
    if input_grad not in INPUT_GRADS:
        raise ValueError(f"unknown input_grad {input_grad!r}; choose one of {', '.join(INPUT_GRADS)}")
    channels = 0 if activations == 1 else shape[1] if len(shape) > 1 else 1  # one activation takes any shape
    if blocks < 1 or channels % blocks or activations % blocks or (activations > 1 and len(shape) < 2):
        raise ValueError(
            f"blocks={blocks} must divide the channels of x {tuple(shape)} (dimension 1) and the {activations} activations"
        )
