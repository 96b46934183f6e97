"""The options of a KA layer: which spline, shared how, differentiated how."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Any

from annotated_types import Ge, Le
from pydantic import AfterValidator, BeforeValidator

from allukan.errors import suggestion
from allukan.ops.activations import CHOICES, split_base
from allukan.ops.basis import FAMILIES
from allukan.ops.bspline import check_grid
from allukan.ops.engines.dispatch import IMPLEMENTATIONS
from allukan.options import LARGEST_COUNT, Count, Help, Must, Number, OneOf, Whole, changed, option_set

SHARINGS = ("layer", "input", "output", "edge")
LARGEST_GRID, LARGEST_ORDER = 256, 10
End = Annotated[Number, Ge(-1e6), Le(1e6)]


def _base(name: str) -> str:
    split_base(name)
    return name


def _sharing(value: str | int) -> str | int:
    if isinstance(value, str) and value not in SHARINGS:
        raise ValueError(f"unknown sharing {value!r}: {suggestion(value, (*SHARINGS, 'a whole number above 0'))}")
    return value


@option_set("option of spline", "spline: ", ValueError)
class Spline:
    """φ(t) = w b(t) + Σ_m c_m B_m(t) and how a layer shares it (arXiv 2602.03156; DESIGN section 2).

    Raises ``ValueError`` with one sentence for a value that is not usable, ``TypeError`` for an option that does not exist.

    >>> Spline(sharing=4).coefficients
    8
    """

    grid_size: Annotated[Whole, Ge(1), Le(LARGEST_GRID), Help("intervals G of the uniform grid")] = 5
    spline_order: Annotated[
        Whole,
        Ge(1),
        Le(LARGEST_ORDER),
        Help("degree k of the B-spline; M = G + k coefficients an activation. Of another basis only M matters"),
    ] = 3
    grid_range: Annotated[
        tuple[End, End],
        BeforeValidator(lambda ends: tuple(ends) if isinstance(ends, list) else ends),
        Must("two numbers between -1e6 and 1e6"),
        Help("(lo, hi) in units of the layer's input; (-3, 3) covers a normalised input"),
    ] = (-3.0, 3.0)
    sharing: Annotated[
        str | Count,
        AfterValidator(_sharing),
        Must(f"{', '.join(SHARINGS)}, or a whole number of at least 1 and at most {LARGEST_COUNT}"),
        Help(
            "layer (one activation), input (one an input channel, at the same price), a whole number A (A groups of outputs), "
            "output (one an output, the paper's formula read literally) or edge (the ordinary KAN)"
        ),
    ] = "layer"
    input_grad: Annotated[
        str,
        OneOf("exact", "free"),
        Help("exact, or free: the paper's Grad-Free Spline, the input learns through the base activation only"),
    ] = "exact"
    base: Annotated[
        str,
        AfterValidator(_base),
        Help(f"base activation b: {', '.join(CHOICES)}, as in leaky_relu:0.01"),
    ] = "silu"
    basis: Annotated[
        str,
        OneOf(*FAMILIES),
        Help(f"the functions B_m: {', '.join(FAMILIES)}; formulas, sources and what they do outside the grid in docs/model.md"),
    ] = "bspline"
    recompute: Annotated[
        bool,
        Help(
            "compute φ(x) again in the backward pass instead of saving it: a layer, norm included, then keeps its input alone. "
            "false keeps φ(x), too, A times x for A activations a number, for a few percent less time; output and edge never do"
        ),
    ] = True
    impl: Annotated[
        str,
        OneOf(*IMPLEMENTATIONS),
        Help(f"implementation of the shared spline: {', '.join(IMPLEMENTATIONS)}"),
    ] = "auto"

    def __post_init__(self) -> None:
        check_grid(self.grid_size, self.spline_order, self.grid_range)

    @property
    def coefficients(self) -> int:
        """Number of basis functions, ``M = G + k``."""
        return self.grid_size + self.spline_order

    def updated(self, given: Spline | Mapping[str, Any] | None) -> Spline:
        """What a model with this default uses: ``given`` as it is, this with the fields of a mapping changed, or this.

        Raises ``TypeError`` for a field that does not exist.

        >>> Spline(grid_range=(-1, 1)).updated({"grid_size": 8}).grid_range
        (-1.0, 1.0)
        """
        return given if isinstance(given, Spline) else changed(self, {} if given is None else given, "spline")

    def fitting(self, outputs: int) -> Spline:
        """The same for a layer with so many outputs: a number of activations shrinks to the largest that divides them.

        >>> Spline(sharing=4).fitting(6).sharing
        3
        """
        if not isinstance(self.sharing, int):
            return self
        return replace(self, sharing=max(d for d in range(1, min(self.sharing, outputs) + 1) if outputs % d == 0))


@dataclass(frozen=True)
class Plan:
    """How a layer with given outputs and groups computes its sharing: see ``plan``."""

    activations: int
    blocks: int
    conv_groups: int
    expanded: bool


def plan(sharing: str | int, in_channels: int, out_channels: int, groups: int) -> Plan:
    """The cheapest exact form (DESIGN section 2): elementwise φ and one grouped convolution, or the expanded basis.

    Raises ``ValueError`` when a number of activations does not divide the outputs.

    >>> plan("layer", 64, 64, 1)
    Plan(activations=1, blocks=1, conv_groups=1, expanded=False)
    >>> plan("input", 32, 64, 1)
    Plan(activations=32, blocks=32, conv_groups=1, expanded=False)
    >>> plan("output", 64, 64, 64).expanded  # depthwise: every activation meets one channel only
    False
    """
    if sharing == "edge":
        return Plan(0, 1, groups, expanded=True)
    if sharing == "input":
        return Plan(in_channels, in_channels, groups, expanded=False)
    a = {"layer": 1, "output": out_channels}.get(str(sharing), sharing)
    assert isinstance(a, int)
    if out_channels % a:
        raise ValueError(f"sharing={a} must divide the {out_channels} outputs of the layer")
    if groups % a == 0:  # every run of channels meets one activation
        return Plan(a, a, groups, expanded=False)
    if sharing != "output" and a % groups == 0:
        return Plan(a, groups, a, expanded=False)
    return Plan(a, 1, groups, expanded=True)
