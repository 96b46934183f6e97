"""What learned activations are worth: a network with the nearest fixed ones in their place, and the score that it loses."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import nn

from allukan.nn.bend import Learned, nearest_base
from allukan.nn.histogram import Histogram, learned
from allukan.nn.init import flat

Score = Callable[[nn.Module], float]


@dataclass(frozen=True)
class KAShare:
    """Scores that a network loses where activations are replaced by the nearest a·b + c, in the units of the score.

    Attributes:
        score: of the network as it is.
        total: lost when all of them are replaced.
        layers: lost when those of one layer are, by its name.
    """

    score: float
    total: float
    layers: dict[str, float]


def ka_share(network: nn.Module, histograms: Mapping[str, Histogram], score: Score, each: bool = True) -> KAShare:
    """KA share of all layers at once and, with ``each``, one at a time; ``histograms`` are those of ``collect_inputs``.

    ``score`` takes the network, in whatever mode it is, and is called once more than there are replacements.
    See ``straightened`` for what a replaced activation is. The network is afterwards as before.

    >>> from allukan.nn import KALinear
    >>> from allukan.nn.histogram import collect_inputs
    >>> network, x = nn.Sequential(KALinear(4, 3)), torch.randn(50, 4)
    >>> _ = network[0].coef.data.normal_()
    >>> found = ka_share(network, collect_inputs(network, [x]), lambda net: net(x).square().mean().item())
    >>> found.total == found.layers["0"] != 0
    True
    """
    before = score(network)

    def lost(names: Iterable[str]) -> float:
        with straightened(network, histograms, names):
            return before - score(network)

    return KAShare(before, lost(histograms), {name: lost([name]) for name in histograms} if each else {})


@contextmanager
def straightened(
    network: nn.Module, histograms: Mapping[str, Histogram], names: Iterable[str] | None = None
) -> Iterator[nn.Module]:
    """The network itself with each φ of the named layers (or all) the nearest a·b + c, as long as the context lasts.

    The constant is made of the splines, c times the one that is nearest to 1. So it fades outside the grid, for B-splines within
    ``spline_order`` intervals: where many inputs lie there, a true constant would be another function. Layers that met nothing
    stay as they are.
    """
    layers = learned(network)
    names = [name for name in (histograms if names is None else names) if histograms[name].counts.any()]
    kept = {p: p.detach().clone() for name in names for p in _parameters(layers[name])}
    try:
        with torch.no_grad():
            for name in names:
                _straighten(layers[name], histograms[name])
        yield network
    finally:
        with torch.no_grad():
            for parameter, values in kept.items():
                parameter.copy_(values)


def _parameters(layer: Learned) -> list[nn.Parameter]:
    """What makes φ; with an activation an edge λ, which scales its spline alone."""
    return [layer.base_weight, layer.coef, *([layer.weight] if layer.spline.sharing == "edge" else [])]  # type: ignore[list-item]


def _straighten(layer: Learned, histogram: Histogram) -> None:
    a, c = nearest_base(layer, histogram)
    values = [a, c.unsqueeze(1) * torch.tensor(flat(layer.spline), dtype=c.dtype), torch.ones(())]
    for parameter, value in zip(_parameters(layer), values, strict=False):
        parameter.copy_(value)
