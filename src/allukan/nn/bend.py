"""How far learned activations are from fixed ones: their bend, and the fixed ones that are nearest.

A layer whose every φ is a·b(t) + c is a convolution, or a matrix, behind the fixed activation b. The *bend* of φ (DESIGN section
2) is the RMS distance from the nearest such function over the inputs that φ meets, relative to the spread of φ over them:

    bend = min_{a, c} √E[(φ(t) - a b(t) - c)²] / √Var φ(t)

With φ = w b + Σ_m c_m B_m both are quadratic forms of the covariance of (b, B_1 … B_M) over the inputs, so that ten thousand
activations of one layer, an edge each, cost no more memory than their coefficients.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn

from allukan.nn.activation import SplineActivation
from allukan.nn.histogram import Histogram, learned
from allukan.nn.layer import KALayer
from allukan.nn.spline import Spline
from allukan.ops.activations import base_function
from allukan.ops.basis import family

_TOGETHER = 1 << 22  # values that exist at once

Learned = KALayer | SplineActivation


class _Moments(NamedTuple):
    """Of (b, B_1 … B_M) over the inputs of R runs: means ``(R, M + 1)`` and covariances ``(R, M + 1, M + 1)``."""

    mean: Tensor
    cov: Tensor


def bends(layer: Learned, histogram: Histogram) -> Tensor:
    """Bend of each activation, float64 ``(A,)``; NaN where φ met nothing or has no spread over what it met."""
    parts = []
    for terms, (_, cov) in _activations(layer, histogram):
        slope = _slope(cov)
        straight = cov[:, 1:, 1:] - slope.unsqueeze(2) * cov[:, :1, 1:]  # covariance of what is left of B_m without b
        left, spread = _quadratic(straight, terms[:, 1:]), _quadratic(cov, terms)
        scale = terms.square().sum(1) * cov.diagonal(dim1=1, dim2=2).amax(1)
        parts.append(torch.where(spread > 1e-12 * scale, (left / spread).sqrt(), math.nan))
    return torch.cat(parts)


def bend(layer: Learned, histogram: Histogram) -> float:
    """Bend of a layer: root mean square over its activations, which all meet equally many inputs; NaN where none has one.

    >>> from allukan.nn.histogram import collect_inputs
    >>> phi = SplineActivation(Spline(base="identity"))
    >>> met = collect_inputs(phi, [torch.linspace(-3, 3, 1001)])[""]
    >>> bend(phi, met)
    0.0
    >>> _ = phi.coef.data.copy_(torch.linspace(-1, 1, 8).square())
    >>> round(bend(phi, met), 2)
    0.09
    """
    return float(bends(layer, histogram).square().nanmean().sqrt())


def nearest_base(layer: Learned, histogram: Histogram) -> tuple[Tensor, Tensor]:
    """a and c, float64 ``(A,)`` each, for which a·b(t) + c is nearest to φ over the inputs that it meets; NaN without inputs."""
    slopes, levels = [], []
    for terms, (mean, cov) in _activations(layer, histogram):
        a = terms[:, 0] + (_slope(cov) * terms[:, 1:]).sum(1)
        slopes.append(a)
        levels.append((mean * terms).sum(1) - a * mean[:, 0])
    return torch.cat(slopes), torch.cat(levels)


def parts(layer: Learned, t: Tensor, which: Tensor) -> tuple[Tensor, Tensor]:
    """w·b(t) and Σ c_m B_m(t), whose sum is φ, of activations ``which`` at places t ``(P,)``: float64 ``(len(which), P)`` each.

    >>> phi = SplineActivation(Spline(base="identity"))
    >>> [part.tolist() for part in parts(phi, torch.tensor([-1.0, 2.0]), torch.tensor([0]))]
    [[[-1.0, 2.0]], [[0.0, 0.0]]]
    """
    weights, functions = coefficients(layer)[which], _terms(layer.spline, t.double())
    return weights[:, :1] * functions[:, 0], weights[:, 1:] @ functions[:, 1:].T


def values(spline: Spline, weights: Tensor, t: Tensor) -> Tensor:
    """φ(t) ``(A, P)`` of such splines by their ``coefficients`` ``(A, M + 1)``, at places ``(P,)``."""
    return weights @ _terms(spline, t).T


def network_bends(network: nn.Module, histograms: Mapping[str, Histogram]) -> dict[str, float]:
    """Bend of every layer that ``histograms`` of ``collect_inputs`` are of."""
    layers = learned(network)
    return {name: bend(layers[name], histogram) for name, histogram in histograms.items()}


def median_bend(network: nn.Module, histograms: Mapping[str, Histogram]) -> float:
    """Median over the layers that have a bend; NaN where none has."""
    return float(torch.tensor([*network_bends(network, histograms).values(), math.nan]).nanmedian())


def _activations(layer: Learned, histogram: Histogram) -> Iterator[tuple[Tensor, _Moments]]:
    """Coefficients ``(a, M + 1)`` of (b, B_1 … B_M) of some activations after others, and the moments over what each meets."""
    met, which = inputs_of_each(layer, histogram)
    moments, terms = _moments(layer.spline, met), coefficients(layer)
    size = max(1, _TOGETHER // terms.shape[1] ** 2)
    for some, of in zip(torch.split(terms, size), torch.split(which, size), strict=True):
        yield some, _Moments(moments.mean[of], moments.cov[of])


def coefficients(layer: Learned) -> Tensor:
    """Of (b, B_1 … B_M) for every activation, float64 ``(A, M + 1)`` on the CPU; of an edge those of B_m have its λ in them."""
    base, coef = layer.base_weight.detach().cpu().double(), layer.coef.detach().cpu().double()
    if isinstance(layer, KALayer) and layer.spline.sharing == "edge":
        coef = coef * layer.weight.detach().cpu().double().reshape(-1, 1)
    return torch.cat([base.unsqueeze(1), coef], dim=1)


def inputs_of_each(layer: Learned, histogram: Histogram) -> tuple[Histogram, Tensor]:
    """Histograms of what activations meet, and for each of the A activations which of them is its own."""
    count = len(layer.coef)
    if isinstance(layer, SplineActivation):
        return histogram, torch.zeros(1, dtype=torch.int64)
    plan, outputs = layer.plan, layer.weight.shape[0]
    groups = plan.conv_groups
    if layer.spline.sharing == "edge":
        inputs = layer.weight.shape[1]
        edge = torch.arange(count) // layer.weight[0, 0].numel()  # output · inputs + input
        return histogram, edge // inputs // (outputs // groups) * inputs + edge % inputs
    if not plan.expanded:
        return histogram, torch.arange(count) // (count // plan.blocks)
    q = torch.arange(outputs)
    usage = torch.zeros(count, groups, dtype=torch.int64)
    usage.index_put_((q // (outputs // count), q // (outputs // groups)), torch.tensor(1), accumulate=True)
    rows, which = usage.unique(dim=0, return_inverse=True)
    return histogram.mixed(rows), which


def _moments(spline: Spline, met: Histogram) -> _Moments:
    points, shares = met.points(), met.shares()
    middle, ends = _terms(spline, points[0, 1:-1]), _terms(spline, points[:, [0, -1]])  # the bins between are those of all runs
    size = max(1, _TOGETHER // (points.shape[1] * middle.shape[1]))
    parts = [_moments_of(middle, *rows) for rows in zip(ends.split(size), shares.split(size), strict=True)]
    return _Moments(*map(torch.cat, zip(*parts, strict=True)))


def _moments_of(middle: Tensor, ends: Tensor, shares: Tensor) -> _Moments:
    terms = torch.cat([ends[:, :1], middle.expand(len(ends), -1, -1), ends[:, 1:]], dim=1)  # (R, N + 2, M + 1)
    mean = (shares.unsqueeze(1) @ terms).squeeze(1)
    centred = terms - mean.unsqueeze(1)
    return _Moments(mean, centred.mT @ (centred * shares.unsqueeze(2)))


def _terms(spline: Spline, t: Tensor) -> Tensor:
    """b(t), then B_1(t) … B_M(t): ``(*S)`` → ``(*S, M + 1)``."""
    functions = family(spline.basis).values(t, spline.grid_size, spline.spline_order, spline.grid_range)
    return torch.cat([base_function(spline.base)(t).unsqueeze(-1), functions], dim=-1)


def _slope(cov: Tensor) -> Tensor:
    """By how much b each B_m is fitted best, ``(a, M)``; 0 where b is the same for all inputs."""
    return torch.where(cov[:, :1, 0] > 0, cov[:, 1:, 0] / cov[:, :1, 0], 0.0)


def _quadratic(matrices: Tensor, vectors: Tensor) -> Tensor:
    """vᵀ S v of each, which rounding shall not make negative."""
    return torch.einsum("am,amn,an->a", vectors, matrices, vectors).clamp(min=0)
