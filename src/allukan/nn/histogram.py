"""What the activations of a network meet: histograms of their inputs, collected while it runs."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from allukan.nn.activation import SplineActivation
from allukan.nn.layer import KALayer
from allukan.nn.norm import normalised
from allukan.nn.spline import Spline

FINE = 160  # bins over the grid at least; a multiple of 4, and 8 or more, in each of its intervals


@dataclass
class Histogram:
    """How often inputs t of φ fell where, for R runs of channels that meet activations of their own; bins are even on ``span``.

    They resolve distributions that are wider than a bin, of which the usual grid (-3, 3) has 160: not those of a channel that a
    norm has scaled down to nothing.

    Attributes:
        counts: ``(R, N + 2)``: below the span, in its N bins, above it. NaN is not counted.
        beyond: ``(R, 2)``: sums of the distances from the span below and above it, so that the mean out there is known.
        span: ``(lo, hi)``: the grid and as much again at each end, or as far as its splines reach.
    """

    counts: Tensor
    beyond: Tensor
    span: tuple[float, float]

    @classmethod
    def empty(cls, spline: Spline, runs: int, device: torch.device | None = None) -> Histogram:
        """For the inputs of such splines; borders of bins lie on those of the grid's intervals.

        >>> found = Histogram.empty(Spline(), 1)
        >>> found.add(torch.tensor([[0.1, 7.0, 11.0]]))
        >>> found.counts.shape, found.span, found.outside(Spline())
        (torch.Size([1, 482]), (-9.0, 9.0), 0.6666666666666666)
        """
        (lo, hi), size = spline.grid_range, spline.grid_size
        margin = _margin(spline)
        bins, width = 4 * max(2, math.ceil(FINE / 4 / size)) * (size + 2 * margin), margin * (hi - lo) / size
        counts = torch.zeros(runs, bins + 2, dtype=torch.int64, device=device)
        return cls(counts, torch.zeros(runs, 2, device=device), (lo - width, hi + width))

    def add(self, t: Tensor) -> None:
        """Count inputs ``(B, C, *S)``, C a multiple of R; nothing waits for the device."""
        (lo, hi), (runs, bins) = self.span, self.counts.shape
        t = t.detach().float().unflatten(1, (runs, -1))
        place = ((t - lo) * ((bins - 2) / (hi - lo))).floor_().clamp_(-1, bins - 2).add_(1.5)
        if runs > 1:
            first = torch.arange(0, runs * bins, bins, device=t.device, dtype=torch.float64 if runs * bins > 1 << 20 else t.dtype)
            place = place + first.view(-1, *[1] * (t.ndim - 2))
        self.counts += torch.histc(place, runs * bins, 0, runs * bins).view(runs, bins).to(torch.int64)
        others = [d for d in range(t.ndim) if d != 1]
        far = t - t.clamp(lo, hi)
        self.beyond += torch.stack([far.clamp(max=0).sum(others).neg(), far.clamp(min=0).sum(others)], dim=1)

    def points(self) -> Tensor:
        """Where the inputs of each bin are taken to be, float64 ``(R, N + 2)``: its middle, beyond the span their mean."""
        (lo, hi), (runs, bins) = self.span, self.counts.shape
        middle = lo + (torch.arange(bins - 2, dtype=torch.float64) + 0.5) * ((hi - lo) / (bins - 2))
        ends = self.beyond.cpu().double() / self.counts[:, [0, -1]].cpu().clamp(min=1)
        return torch.cat([lo - ends[:, :1], middle.expand(runs, -1), hi + ends[:, 1:]], dim=1)

    def shares(self) -> Tensor:
        """Of the inputs of each run the share in each bin, float64 ``(R, N + 2)``; NaN for a run that met nothing."""
        counts = self.counts.cpu().double()
        return counts / counts.sum(1, keepdim=True)

    def mixed(self, usage: Tensor) -> Histogram:
        """Those of readers of several runs: ``usage`` ``(A, R)`` says how often each reads which; lies on the CPU."""
        counts = usage.to(torch.int64) @ self.counts.cpu()
        return Histogram(counts, usage.float() @ self.beyond.cpu(), self.span)

    def coarser(self) -> Histogram:
        """The same in a quarter of the bins, where it takes too much room."""
        inner = self.counts[:, 1:-1].unflatten(1, (-1, 4)).sum(-1)
        return replace(self, counts=torch.cat([self.counts[:, :1], inner, self.counts[:, -1:]], dim=1))

    def intervals(self, spline: Spline) -> Tensor:
        """Inputs in each of the grid's G intervals, ``(R, G)``."""
        all_intervals = spline.grid_size + 2 * _margin(spline)
        per = (self.counts.shape[1] - 2) // all_intervals
        margin = 1 + per * _margin(spline)
        return self.counts[:, margin:-margin].unflatten(1, (spline.grid_size, per)).sum(-1)

    def outside(self, spline: Spline) -> float:
        """Share of all inputs that lie outside the grid; NaN without inputs."""
        total = int(self.counts.sum())
        return (total - int(self.intervals(spline).sum())) / total if total else math.nan


def _margin(spline: Spline) -> int:
    """Intervals of the span at each end of the grid."""
    return max(spline.grid_size, spline.spline_order)


def learned(network: nn.Module) -> dict[str, KALayer | SplineActivation]:
    """The layers with learned activations by name, "" for the network itself; of a Sprecher block its outer Φ."""
    return {name: module for name, module in network.named_modules() if isinstance(module, KALayer | SplineActivation)}


def runs(layer: KALayer | SplineActivation) -> int:
    """Equal runs of input channels that meet different activations: 1 where all channels meet the same."""
    if isinstance(layer, SplineActivation):
        return 1
    if layer.spline.sharing == "edge":
        return layer.weight.shape[1] * layer.plan.conv_groups
    return layer.plan.conv_groups if layer.plan.expanded else layer.plan.blocks


@contextmanager
def watched_inputs(network: nn.Module) -> Iterator[dict[str, Histogram]]:
    """Counts, while it lasts, what the activations meet in every run of the network: γ x̂ + β where a layer has a norm.

    Hooks stand before the layers, never at their norms, so that the layers compute what they always do. A compiled network does
    not see hooks: let it run within ``torch.compiler.set_stance("force_eager")``.
    """
    found, hooks = {}, []
    for name, layer in learned(network).items():
        found[name] = Histogram.empty(layer.spline, runs(layer), layer.coef.device)
        hooks.append(layer.register_forward_pre_hook(_counting(found[name])))
    try:
        yield found
    finally:
        for hook in hooks:
            hook.remove()


def _counting(histogram: Histogram) -> Any:
    @torch.no_grad()
    def count(layer: nn.Module, args: tuple[Tensor, ...]) -> None:
        histogram.add(activation_inputs(layer, args[0]))  # type: ignore[arg-type]

    return count


def activation_inputs(layer: KALayer | SplineActivation, x: Tensor) -> Tensor:
    """What φ meets when the layer is given x, in evaluation: ``(N, C, *S)``."""
    if isinstance(layer, SplineActivation):
        return x.reshape(1, -1)
    if not hasattr(layer, "spatial_dims"):
        x = x.reshape(-1, x.shape[-1])
    return layer.pad(normalised(layer.norm, x))


@torch.no_grad()
def collect_inputs(network: nn.Module, batches: Iterable[Tensor]) -> dict[str, Histogram]:
    """Histograms by name of layer over batches ``(B, C, *S)`` that the network takes, on its device, in evaluation mode.

    Modes are afterwards as before; no parameter, statistic or state of a random generator changes.

    >>> from allukan.nn import KALinear
    >>> found = collect_inputs(nn.Sequential(KALinear(4, 3, norm="batch")), [torch.randn(10, 4)])
    >>> {name: int(histogram.counts.sum()) for name, histogram in found.items()}
    {'0': 40}
    """
    modes = {module: module.training for module in network.modules()}
    network.eval()
    try:
        with watched_inputs(network) as found, torch.compiler.set_stance("force_eager"):
            for batch in batches:
                network(batch)
    finally:
        for module, training in modes.items():
            module.training = training
    return found
