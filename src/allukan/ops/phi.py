"""What φ is and how it is computed, in one object from the layer to the kernel."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from allukan.ops.activations import base_function
from allukan.ops.autograd import cached
from allukan.ops.basis import family
from allukan.ops.bspline import GridRange, check_grid

INPUT_GRADS = ("exact", "free")


@dataclass(frozen=True)
class Phi:
    """φ_a(t) = w_a b(t) + Σ_m c_am B_m(t), all of it but its parameters; see ``shared_spline`` for the options.

    Attributes:
        grid_size: intervals G of the grid.
        spline_order: order k of the spline, M = G + k.
        grid_range: ``(lo, hi)``.
        basis: the functions B_m.
        base: the base activation b.
        exact: the input learns through the spline, too; else through the base alone ("free").
        blocks: equal runs of channels, each with activations of its own.
        expanded: not φ(x) is computed but its M + 1 terms, for a linear map with composed weights (``basis_expansion``).
        recompute: a layer computes φ(x) again in the backward pass instead of saving it for it.
        impl: "auto" or the name of an engine.
        edges: every edge has an activation of its own, which λ scales without its base.
    """

    grid_size: int
    spline_order: int
    grid_range: GridRange
    basis: str = "bspline"
    base: str = "silu"
    exact: bool = True
    blocks: int = 1
    expanded: bool = False
    recompute: bool = False
    impl: str = "auto"
    edges: bool = False

    @property
    def grid(self) -> tuple[int, int, GridRange]:
        """What the families of basis functions ask for."""
        return self.grid_size, self.spline_order, self.grid_range

    @property
    def coefficients(self) -> int:
        """M = G + k."""
        return self.grid_size + self.spline_order

    def values(self, x: Tensor) -> Tensor:
        """All B_m(x), ``(*S)`` → ``(*S, M)``."""
        return family(self.basis).values(x, *self.grid)

    def slopes(self, x: Tensor) -> Tensor:
        """All B_m'(x), likewise."""
        return family(self.basis).derivative(x, *self.grid)


@cached
def checked_phi(
    grid_size: int,
    spline_order: int,
    grid_range: GridRange,
    basis: str,
    base: str,
    input_grad: str,
    blocks: int = 1,
    expanded: bool = False,
    impl: str = "auto",
) -> Phi:
    """The description with these options, made and checked once; ``ValueError`` for one that cannot be.

    >>> checked_phi(5, 3, (-1.0, 1.0), "bspline", "silu", "exact").coefficients
    8
    """
    check_grid(grid_size, spline_order, grid_range)
    base_function(base)
    family(basis)
    if input_grad not in INPUT_GRADS:
        raise ValueError(f"unknown input_grad {input_grad!r}; choose one of {', '.join(INPUT_GRADS)}")
    lo, hi = grid_range
    return Phi(grid_size, spline_order, (lo, hi), basis, base, input_grad == "exact", blocks, expanded, impl=impl)
