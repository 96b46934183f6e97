"""The shared spline: one learnable activation for many inputs, the elementwise heart of the KA layers."""

from __future__ import annotations

from torch import Tensor

from allukan.ops import spline_autograd
from allukan.ops.bspline import GridRange
from allukan.ops.engines.dispatch import choose
from allukan.ops.phi import checked_phi
from allukan.ops.subclasses import through_subclasses
from allukan.ops.tracing import sizes


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

    The channels fall into equal ``blocks``; block j meets the activations ``j·A/blocks … (j+1)·A/blocks - 1``. The output
    channels are ordered block, activation, channel of the block: what a convolution with ``groups=A`` wants.

    Source: SaKAN and Grad-Free Spline of arXiv 2602.03156; mathematics in ``ops/README.md``.

    Args:
        x: ``(B, C, *S)``; any shape when ``A == 1``. Floating point; arithmetic is float32 (float64 for float64).
        coef: spline coefficients ``(A, M)`` with ``M = grid_size + spline_order``.
        base_weight: weights of the base activation ``(A,)``.
        grid_range: ``(lo, hi)``; outside it the spline runs out to zero within ``spline_order`` intervals, another basis as its
            file in ``ops.basis`` says.
        spline_order: polynomial degree, 1 or more; for another basis it only counts in M.
        basis: the functions B_m, "bspline" or another of ``ops.basis.FAMILIES``.
        base: b, a name of ``ops.activations.BASES``, or "leaky_relu:SLOPE" with a slope from 0 to below 1.
        input_grad: "exact", or "free" (Grad-Free Spline): x receives its gradient through the base activation only.
        blocks: equal blocks of channels, as many as divide C and A.
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
    _check(x, coef, base_weight, blocks)
    grid_size = int(sizes(coef)[1]) - spline_order
    phi = checked_phi(grid_size, spline_order, tuple(grid_range), basis, base, input_grad, blocks, impl=impl)  # type: ignore[arg-type]
    return spline_autograd.apply(x, coef, base_weight, phi, choose(phi, x.device.type, x.dtype))


def _check(x: Tensor, coef: Tensor, base_weight: Tensor, blocks: int) -> None:
    shape, (activations, *count), weights = sizes(x), sizes(coef) or (0,), sizes(base_weight)
    if len(count) != 1 or not activations or weights != (activations,):
        raise ValueError(f"coef must be (A, M) and base_weight (A,), got {tuple(sizes(coef))} and {tuple(weights)}")
    for name, tensor in (("x", x), ("coef", coef), ("base_weight", base_weight)):
        if not tensor.is_floating_point():
            raise ValueError(f"{name} must be floating point, got {tensor.dtype}")
        if tensor.device != x.device:
            raise ValueError(f"{name} is on {tensor.device} and x on {x.device}: move one of them")
    channels = 0 if activations == 1 else shape[1] if len(shape) > 1 else 1  # one activation takes any shape
    if blocks < 1 or channels % blocks or activations % blocks or (activations > 1 and len(shape) < 2):
        raise ValueError(
            f"blocks={blocks} must divide the channels of x {tuple(shape)} (dimension 1) and the {activations} activations"
        )
