"""What there is to see of the activations of one layer."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from allukan.nn.bend import Learned, bends, inputs_of_each, parts
from allukan.nn.histogram import Histogram
from allukan.nn.named import Fit, nearest_named

PLACES = 81  # of a curve
BARS = 54
SAMPLE = 64  # activations of a layer that are looked at
_TAIL = 0.005  # of the inputs at each end that need not be in the picture

Values = NDArray[np.float64]


@dataclass(frozen=True)
class Portrait:
    """One φ of a layer over what it meets: the only one, or of several the one nearest to their median.

    Attributes:
        number: which activation it is, from 0.
        t: P places, even from one end of the picture to the other: the grid, and where its inputs lie.
        base: w·b(t) there, ``(P,)``.
        spline: Σ c_m B_m(t), ``(P,)``; φ is their sum.
        band: ``(2, P)``, between which 8 of 10 activations of the layer lie; None for one alone.
        bars: shares of its inputs in even bins from t[0] to t[-1], ``(BARS,)``.
        seen: the two inputs between which all but 1 in 100 lie.
        grid: its two ends.
        dead: the intervals of the grid into which none of its inputs ever fell, ``(lo, hi)`` each.
        bends: smallest and largest bend of an activation of the layer.
        fit: the named function nearest to it, over its inputs.
    """

    number: int
    t: Values
    base: Values
    spline: Values
    band: Values | None
    bars: Values
    seen: tuple[float, float]
    grid: tuple[float, float]
    dead: tuple[tuple[float, float], ...]
    bends: tuple[float, float]
    fit: Fit

    @property
    def phi(self) -> Values:
        """φ(t), ``(P,)``."""
        return self.base + self.spline


def portrait(layer: Learned, histogram: Histogram) -> Portrait:
    """Of a layer and what its activations met; of more than 64 activations 64, evenly drawn, are looked at.

    >>> from allukan.nn import SplineActivation
    >>> from allukan.nn.histogram import collect_inputs
    >>> phi = SplineActivation()
    >>> found = portrait(phi, collect_inputs(phi, [torch.linspace(-3, 1, 1000)])[""])
    >>> str(found.fit), [tuple(round(end, 1) for end in cell) for cell in found.dead]
    ('silu(t)', [(1.8, 3.0)])
    """
    met, which = inputs_of_each(layer, histogram)
    sample = torch.linspace(0, len(which) - 1, min(len(which), SAMPLE)).round().long()
    everywhere = _places(layer, met)
    curves = sum(parts(layer, everywhere, sample))
    assert isinstance(curves, Tensor)
    number = sample[(curves - curves.median(0).values).square().sum(1).argmin()]
    own = met.mixed(torch.nn.functional.one_hot(which[number : number + 1], len(met.counts)))
    base, spline = parts(layer, everywhere, number.unsqueeze(0))
    found = bends(layer, histogram)
    found = found[~found.isnan()]
    return Portrait(
        int(number),
        everywhere.numpy(),
        base[0].numpy(),
        spline[0].numpy(),
        curves.quantile(torch.tensor([0.1, 0.9], dtype=torch.float64), dim=0).numpy() if len(sample) > 1 else None,
        _bars(own, everywhere),
        _seen(own),
        layer.spline.grid_range,
        _dead(layer, own),
        (float(found.min()), float(found.max())) if len(found) else (0.0, 0.0),
        _fit(layer, own, number),
    )


def _places(layer: Learned, met: Histogram) -> Tensor:
    pooled = met.mixed(torch.ones(1, len(met.counts), dtype=torch.int64))
    (low, high), (least, most) = layer.spline.grid_range, _seen(pooled)
    return torch.linspace(max(met.span[0], min(low, least)), min(met.span[1], max(high, most)), PLACES, dtype=torch.float64)


def _seen(met: Histogram) -> tuple[float, float]:
    """Of one run, the ends of its grid's middle where it met nothing."""
    if not met.counts.any():
        return met.span
    reached, points = met.shares()[0].cumsum(0), met.points()[0]
    low, high = (int(torch.searchsorted(reached, share)) for share in (_TAIL, 1 - _TAIL))
    return float(points[low]), float(points[min(high, len(points) - 1)])


def _bars(met: Histogram, places: Tensor) -> Values:
    """Shares in bars that cut bins: what a bin holds is even within it."""
    counts = met.counts[0].double().numpy()
    below, edges = counts[:-1].cumsum(), np.linspace(*met.span, len(counts) - 1)
    reached = np.interp(np.linspace(float(places[0]), float(places[-1]), BARS + 1), edges, below)
    return np.diff(reached) / max(1.0, counts.sum())


def _dead(layer: Learned, met: Histogram) -> tuple[tuple[float, float], ...]:
    low, high = layer.spline.grid_range
    width = (high - low) / layer.spline.grid_size
    empty = (met.intervals(layer.spline)[0] == 0).nonzero().flatten().tolist()
    return tuple((low + i * width, low + (i + 1) * width) for i in empty)


def _fit(layer: Learned, met: Histogram, number: Tensor) -> Fit:
    coarse = met.coarser() if met.counts.shape[1] > 2 + 160 else met
    t = coarse.points()[0]
    return nearest_named(t, coarse.shares()[0].nan_to_num(), sum(parts(layer, t, number.unsqueeze(0)))[0])  # type: ignore[index]
