"""What jobs of ``native_kernels`` with one kind of φ and one shape of x have in common, made once."""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor

from allukan.ops.engines.curves import curves
from allukan.ops.engines.native_team import packed
from allukan.ops.phi import Phi

_SHORT = 128  # elements that are not worth a start


def scattered(x: Tensor, coef: Tensor, blocks: int) -> bool:
    """Whether the elements of an activation lie in runs too short to be worth a start each, as in ``(N, C)`` with A = C."""
    return 1 < blocks == coef.shape[0] and x.shape[0] > 1 and x.numel() < _SHORT * blocks * x.shape[0]


@cache
def job(phi: Phi, shape: torch.Size, activations: int, period: int) -> bytes:
    """Sizes of "forward", "backward" and what is computed of channels; ``period`` scales and shifts, or none."""
    elements, rows = shape.numel(), shape[0] * shape[1] if period else 1
    segments = 1 if activations == 1 else shape[0] * phi.blocks
    sizes = {"segments": segments, "length": elements // segments, "inner": elements // rows if period else 0, "period": period}
    activations_of = {"blocks": phi.blocks, "per_block": activations // phi.blocks, "count": phi.coefficients, "exact": phi.exact}
    return packed(**sizes, **activations_of, channels=shape[1] if period else 0, **_tables(phi, "base"))


@cache
def expansion_job(phi: Phi, shape: torch.Size, table: str) -> bytes:
    """Of "expand" and "expand_backward": a segment a channel."""
    segments = shape[0] * shape[1]
    sizes = {"segments": segments, "length": shape.numel() // segments, "blocks": 1, "per_block": 1}
    return packed(**sizes, count=phi.coefficients, exact=phi.exact, **_tables(phi, table))


def _tables(phi: Phi, name: str) -> dict[str, int]:
    curve = curves(phi.grid, phi.basis, phi.base)  # made once, and kept
    at, (alive, width) = curve.addresses, curve.local.shape[:2]
    rows = {"rows": len(curve.base), "first_alive": curve.first_alive, "alive": alive, "width": width}
    return {**rows, "table": at[name], "local": at["local"], "begin": at["begin"], "grid": at["grid"]}
