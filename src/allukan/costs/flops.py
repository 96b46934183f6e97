"""FLOPs of a KA layer, basis evaluation included: the hand count, written down (``docs/evidence/flops.md`` derives it).

Conventions. One FLOP: + − × ÷, exp, tanh, erf, or a comparison that selects a value. Look-ups, floor to an index, copies and
padding cost none. A multiply-add is 2, as in ``torch.utils.flop_counter``. With order k, M = G + k and the base activation b:

    shared form, an element of x         forward                            backward
      position u, t in its interval      4                                  4, again: it is not saved
      base b; b' beside it               b: SiLU 4, GELU 5, ReLU, tanh 1    b and b'
      for each activation it meets:
        table row, Horner                2k
        w b(x) + spline                  2
        ∂c: k + 1 moments Σ g t^p                                           2k + 1
        ∂w: Σ g b(x)                                                        2
        ∂x: g (w b' + slope)                                                3 and, exact, Horner 2 (k - 1) + 1
      an activation: its table           2 (k + 1)² (G + 2k + 2)            twice that: rebuilt, and its gradient folded back

    expanded form, an element of x       4 + b + (k + 1) 2k                 again, b and b' + 2 and, exact, 4 + (k + 1) 2k
      a weight: λ c composed             M + 1 (edge: M)                    again, and its gradients: 4 (M + 1) (edge: 3 M)

Other families of basis functions than B-splines are not zero at most places and have no table. An element costs all values, in
the exact backward pass all slopes too (``Family.flops``), and the base as above; shared, for each activation 2 M + 2 forward,
2 M + 5 backward and, exact, another 2 M; expanded, 2 backward and, exact, 2 M.

"exact" and "free" are ``input_grad``. A layer computes all its gradients together, whether or not somebody asks for each of them;
the linear map's are another two products, one where λ is frozen in the shared form; expanded and "free" the one for x is of the
base channels only, 1 / (M + 1) of it. With ``recompute``, the default, φ(x) is not saved either: the backward pass adds the
shared form's forward count. This is the closed form: an implementation that tabulates the base as well computes less.

What a unit has besides: its norm counts as any norm (``NORM``), u = γ x̂ + β again in the backward pass within these; the second
map of a fork is a linear map of the same φ(x).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import astuple, dataclass

from torch import Tensor

from allukan.nn import KAConv, KAFork, KALayer, SprecherLinear
from allukan.ops.activations import base_activation
from allukan.ops.basis import family

LOCATE = 4  # u = s x + o: 2; t = u - floor(u): 2
NORM = (8, 9)  # an element, forward and backward: ``operators`` lists them


@dataclass(frozen=True)
class Flops:
    """FLOPs by what they do: matrix products and convolutions, splines, all else (norms, biases, resizing …).

    >>> (Flops(linear=4) + Flops(linear=1, other=2)).total
    7
    """

    linear: int = 0
    spline: int = 0
    other: int = 0

    def __add__(self, more: Flops) -> Flops:
        return Flops(*(a + b for a, b in zip(astuple(self), astuple(more), strict=True)))

    @property
    def total(self) -> int:
        """All three."""
        return self.linear + self.spline + self.other


@dataclass(frozen=True)
class Cost:
    """FLOPs of the two directions of a training step."""

    forward: Flops = Flops()
    backward: Flops = Flops()

    def __add__(self, more: Cost) -> Cost:
        return Cost(self.forward + more.forward, self.backward + more.backward)


NOTHING = Cost()


def shared_cost(
    elements: int,
    activations: int,
    grid_size: int,
    spline_order: int,
    basis: str = "bspline",
    base: str = "silu",
    *,
    met: int = 1,
    exact: bool = True,
) -> Cost:
    """The shared spline on ``elements`` inputs, each of which meets ``met`` of the activations.

    >>> shared_cost(1000, 1, 5, 3).forward.spline == 1000 * (4 + 4 + 6 + 2) + 2 * 4**2 * 13
    True
    """
    k, m, (value, slope), flops = spline_order, grid_size + spline_order, base_activation(base).flops, family(basis).flops
    if flops is not None:
        values, slopes = flops(m)
        forward = elements * (values + value + met * (2 * m + 2))
        backward = elements * (values + value + slope + met * (2 * m + 5) + (slopes + met * 2 * m) * exact)
        return Cost(Flops(spline=forward), Flops(spline=backward))
    table = activations * 2 * (k + 1) ** 2 * (grid_size + 2 * k + 2)
    forward = elements * (LOCATE + value + met * (2 * k + 2)) + table
    backward = elements * (LOCATE + value + slope + met * (2 * k + 6 + (2 * k - 1) * exact)) + 2 * table
    return Cost(Flops(spline=forward), Flops(spline=backward))


def expansion_cost(
    elements: int, grid_size: int, spline_order: int, basis: str = "bspline", base: str = "silu", *, exact: bool = True
) -> Cost:
    """The basis expansion of ``elements`` inputs: of the M B-splines only the k + 1 that differ from zero, of others all.

    >>> expansion_cost(1, 5, 3).forward.spline, expansion_cost(1, 5, 3).backward.spline
    (32, 38)
    """
    k, m, (value, slope), flops = spline_order, grid_size + spline_order, base_activation(base).flops, family(basis).flops
    if flops is not None:
        values, slopes = flops(m)
        backward = value + slope + 2 + (values + slopes + 2 * m) * exact
        return Cost(Flops(spline=elements * (values + value)), Flops(spline=elements * backward))
    forward = LOCATE + value + (k + 1) * 2 * k
    backward = value + slope + 2 + (LOCATE + (k + 1) * 2 * k) * exact  # Horner 2 (k - 1) and the product with g, 2
    return Cost(Flops(spline=elements * forward), Flops(spline=elements * backward))


def ka_cost(layer: KALayer, x: Tensor, out: Tensor) -> Cost:
    """What ``out = layer(x)`` costs but for its norm, and its gradient where one is needed; only shapes are looked at.

    >>> import torch
    >>> from allukan.nn import KALinear
    >>> layer, x = KALinear(4, 3), torch.zeros(2, 4)
    >>> ka_cost(layer, x, layer(x)).forward.linear
    48
    """
    s, elements, exact = layer.spline, activated_elements(layer, x.shape), layer.spline.input_grad == "exact"
    grid = (s.grid_size, s.spline_order, s.basis, s.base)
    if layer.plan.expanded:
        spline = expansion_cost(elements, *grid, exact=exact) + _compose_cost(layer)
        width = s.coefficients + 1
        spline, products = _again(spline), 2 if exact else 1 + 1 / width
    else:
        met = layer.plan.activations // layer.plan.blocks
        a = layer.plan.activations
        spline = shared_cost(elements, a, *grid, met=met, exact=exact)
        spline, products, width = _again(spline) if s.recompute else spline, 1 + layer.weight.requires_grad, 1
    product = 2 * out.numel() * layer.weight[0].numel() * width
    bias = out.numel() if layer.bias is not None else 0
    cost = spline + Cost(Flops(product, other=bias), Flops(round(products * product), other=bias))
    return _as_needed(cost, out)


def norm_cost(x: Tensor, out: Tensor) -> Cost:
    """The norm within ``out = unit(x)``; as the layer, it computes all its gradients together."""
    forward, backward = (Flops(other=n * x.numel()) for n in NORM)
    return _as_needed(Cost(forward, backward), out)


def side_cost(fork: KAFork, out: Tensor) -> Cost:
    """The second map of a fork, whose output is ``out``: φ(x) counts in the first (``ka_cost``)."""
    (weight,) = fork.side.parameters()
    product = 2 * out.numel() * weight[0].numel()
    return _as_needed(Cost(Flops(product), Flops(product * (1 + weight.requires_grad))), out)


def sprecher_cost(layer: SprecherLinear, x: Tensor) -> Cost:
    """What ``layer(x)`` costs but for its outer activation, a module of its own: in · out inner splines a row, twice.

    An inner spline: x + ηq and its limits 2, the spline, its product with λ 2. An output: α q 1, mixing and residual 2 each;
    backward 5.
    """
    s, outputs = layer.spline, x.numel() // layer.in_features * layer.out_features
    evaluations = outputs * layer.in_features
    inner = shared_cost(evaluations, 1, s.grid_size, s.spline_order, s.basis, "identity")
    inner = inner + Cost(Flops(2 * evaluations, other=2 * evaluations), Flops(4 * evaluations, other=2 * evaluations))
    outer = (1 + 2 * (layer.mixing is not None) + 2 * (layer.residual is not None)) * outputs
    return _again(inner) + Cost(Flops(other=outer), Flops(other=5 * outputs))


def as_spline(cost: Cost) -> Cost:
    """With all that is not linear counted as spline."""
    forward, backward = (Flops(f.linear, f.spline + f.other) for f in (cost.forward, cost.backward))
    return Cost(forward, backward)


def _as_needed(cost: Cost, out: Tensor) -> Cost:
    """Without the gradient where nobody can ask for one."""
    return cost if out.requires_grad else Cost(cost.forward)


def _again(cost: Cost) -> Cost:
    """Not saved but computed again in the backward pass."""
    return Cost(cost.forward, cost.forward + cost.backward)


def activated_elements(layer: KALayer, shape: Sequence[int]) -> int:
    """How many inputs φ is evaluated at: those of x ``shape``, and what a ``padding_mode`` other than "zeros" repeats of them."""
    if not isinstance(layer, KAConv) or layer.padding_mode == "zeros" or layer.padding == "valid":
        return math.prod(shape)
    return math.prod(shape[:2]) * math.prod(_padded_size(layer, shape[2:]))


def _compose_cost(layer: KALayer) -> Cost:
    """λ·c for every weight and basis function, and the gradients of both."""
    m, edges = layer.spline.coefficients, layer.weight.numel()
    forward, backward = (m, 3 * m) if layer.spline.sharing == "edge" else (m + 1, 4 * (m + 1))
    return Cost(Flops(spline=edges * forward), Flops(spline=edges * backward))


@dataclass(frozen=True)
class Evaluations:
    """How often a convolution evaluates a spline, by where the spline sits: three counts of one layer."""

    before_unfolding: int
    after_unfolding: int
    each_edge: int


def spline_evaluations(layer: KAConv, shape: Sequence[int]) -> Evaluations:
    """The three ways to count the splines of the same KAonv layer on an input ``(B, C, *S)``.

    - before unfolding: φ once an input element, ``B·C·|S|``; what this package does for a few shared activations
    - after unfolding: φ again at every kernel offset, ``B·C·|K|·|S'|``; the same values, ``|K|`` times for stride 1
    - each edge: one spline for every output as well, ``B·C/groups·|K|·C'·|S'|``; what a KAN with a spline an edge needs

    An evaluation with ``A`` shared activations is counted once here; multiply by its cost (module docstring).

    >>> from allukan.nn import KAConv2d
    >>> spline_evaluations(KAConv2d(16, 32, 3, padding=1), (1, 16, 64, 64))
    Evaluations(before_unfolding=65536, after_unfolding=589824, each_edge=18874368)
    """
    positions = shape[0] * math.prod(_output_size(layer, shape[2:]))
    offsets = math.prod(layer.kernel_size)
    after = positions * layer.in_channels * offsets
    return Evaluations(activated_elements(layer, shape), after, positions * layer.weight.numel())


def _output_size(layer: KAConv, size: Sequence[int]) -> list[int]:
    spans = [d * (k - 1) + 1 for d, k in zip(layer.dilation, layer.kernel_size, strict=True)]
    return [(n - span) // s + 1 for n, span, s in zip(_padded_size(layer, size), spans, layer.stride, strict=True)]


def _padded_size(layer: KAConv, size: Sequence[int]) -> list[int]:
    return [n + before + after for n, (before, after) in zip(size, layer.paddings(size), strict=True)]
