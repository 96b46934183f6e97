"""The options of a KA layer: which spline, shared how, differentiated how."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any, TypeVar

from allukan.ops.activations import base_function
from allukan.ops.basis import FAMILIES
from allukan.ops.bspline import check_grid
from allukan.ops.phi import IMPLEMENTATIONS

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

T = TypeVar("T", bound="DataclassInstance")
SHARINGS = ("layer", "input", "output", "edge")


@dataclass(frozen=True)
class Spline:
    """φ(t) = w b(t) + Σ_m c_m B_m(t) and how a layer shares it (arXiv 2602.03156; DESIGN section 2).

    Attributes:
        grid_size: intervals G of the uniform grid.
        spline_order: degree k of the B-spline; ``M = G + k`` coefficients an activation. Of another basis only M matters.
        grid_range: ``(lo, hi)`` in units of the layer's input; (-3, 3) covers a normalised input.
        sharing: "layer" (one activation), "input" (one an input channel, at the same price), a whole number A (A groups of
            outputs), "output" (one an output, the paper's formula read literally) or "edge" (the ordinary KAN).
        input_grad: "exact", or "free": the paper's Grad-Free Spline, the input learns through the base activation only.
        base: "silu", "identity", "relu", "gelu", "tanh" or "leaky_relu:SLOPE", as in "leaky_relu:0.01".
        basis: the functions B_m: "bspline", "rbf" (FastKAN), "rswaf" (FasterKAN), "wavelet" (Wav-KAN), "chebyshev" (ChebyKAN),
            "fourier" (FourierKAN) or "rational" (after KAT); formulas and what they do outside the grid in ``docs/model.md``.
        recompute: compute φ(x) again in the backward pass instead of saving it, for a little more time: [norm, KA layer] then
            keeps a third less, more with A activations a number, whose φ is A times x; "output" and "edge" never save it.
        impl: implementation of the shared spline: "auto", "native", "triton", "eager", "aten" or "reference".

    >>> Spline(sharing=4).coefficients
    8
    """

    grid_size: int = 5
    spline_order: int = 3
    grid_range: tuple[float, float] = (-3.0, 3.0)
    sharing: str | int = "layer"
    input_grad: str = "exact"
    base: str = "silu"
    basis: str = "bspline"
    recompute: bool = False
    impl: str = "auto"

    def __post_init__(self) -> None:
        ends = self.grid_range
        if not isinstance(ends, list | tuple) or any(isinstance(e, bool) or not isinstance(e, Real) for e in ends):
            raise ValueError(f"grid_range must be two numbers, got {ends!r}")
        object.__setattr__(self, "grid_range", tuple(float(end) for end in ends))
        for name in ("grid_size", "spline_order"):
            if isinstance(getattr(self, name), bool) or not isinstance(getattr(self, name), Integral):
                raise ValueError(f"{name} must be a whole number, got {getattr(self, name)!r}")
        check_grid(self.grid_size, self.spline_order, self.grid_range)
        base_function(self.base)
        if not isinstance(self.recompute, bool):
            raise ValueError(f"recompute must be true or false, got {self.recompute!r}")
        _one_of("input_grad", self.input_grad, ("exact", "free"))
        _one_of("basis", self.basis, tuple(FAMILIES))
        _one_of("impl", self.impl, IMPLEMENTATIONS)
        if isinstance(self.sharing, bool) or not (isinstance(self.sharing, int) and self.sharing > 0):
            _one_of("sharing", self.sharing, (*SHARINGS, "a whole number above 0"))

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
        return replace(self, sharing=max(d for d in range(1, self.sharing + 1) if outputs % d == 0))


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


def changed(options: T, given: Mapping[str, Any], what: str) -> T:
    """A frozen dataclass with some fields changed; ``TypeError`` for what is no mapping and that names an unknown field."""
    names = [f.name for f in fields(options)]
    if not isinstance(given, Mapping):
        raise TypeError(f"{what} must be a mapping of {', '.join(names)}, got {given!r}")
    for name in given:
        if name not in names:
            raise TypeError(f"{what} has no option {name!r}; it has {', '.join(names)}")
    return replace(options, **given)


def _one_of(name: str, value: object, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise ValueError(f"unknown {name} {value!r}; choose one of {', '.join(allowed)}")
