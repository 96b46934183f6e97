"""The named function that is nearest to a learned activation over the inputs that it meets: a·f(b·t + c) + d.

For given b and c the nearest a and d are those of a straight line through (f, φ), so the search is in two dimensions only: a grid
of slopes b and centres -c/b, and from its best places smaller and smaller steps. No gradient: f may have kinks.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from allukan.ops.activations import Function, base_function

_SLOPES, _CENTRES, _STARTS, _ROUNDS, _SHRINK = 9, 17, 3, 20, 0.65
_LEAST, _MOST = 0.25, 8.0  # |b| times the spread of the inputs: beyond, a function is a line, or a step between two bins
_SIMPLER = 1.05, 0.002  # an error so many times larger and so much above is nearly as small


@dataclass(frozen=True)
class Named:
    """A function f; what a and d make of it already is not searched.

    Attributes:
        function: f(t), elementwise.
        shifted: c matters.
        scaled: |b| matters.
        mirrored: the sign of b matters.
    """

    function: Function
    shifted: bool = True
    scaled: bool = True
    mirrored: bool = True


def _gauss(t: Tensor) -> Tensor:
    return torch.exp(-t.square())


NAMED: dict[str, Named] = {  # the simpler first
    "identity": Named(base_function("identity"), False, False, False),
    "relu": Named(base_function("relu"), scaled=False),
    "abs": Named(torch.abs, scaled=False, mirrored=False),
    "square": Named(torch.square, scaled=False, mirrored=False),
    "silu": Named(base_function("silu")),
    "gelu": Named(base_function("gelu")),
    "softplus": Named(base_function("softplus")),
    "tanh": Named(torch.tanh, mirrored=False),
    "sigmoid": Named(torch.sigmoid, mirrored=False),
    "sin": Named(torch.sin, mirrored=False),
    "exp": Named(torch.exp, shifted=False),
    "gauss": Named(_gauss, mirrored=False),
}


@dataclass(frozen=True)
class Fit:
    """a·f(b·t + c) + d, and its RMS distance from φ relative to the spread of φ."""

    name: str
    a: float
    b: float
    c: float
    d: float
    error: float

    def __str__(self) -> str:
        """As a formula.

        >>> print(Fit("silu", 2.0, 1.0, -0.5, 0.25, 0.01))
        2·silu(t − 0.5) + 0.25
        """
        if self.name == "constant":
            return f"{self.d:.3g}".replace("-", "−")
        inner = f"{_factor(self.b)}t{_sign(self.c)}"
        inner = inner if self.name == "identity" else f"{self.name}({inner})"
        return f"{_factor(self.a)}{inner}{_sign(self.d, min(1.0, abs(self.a)))}"


def _factor(value: float) -> str:
    text = f"{value:.3g}".replace("-", "−")
    return {"1": "", "−1": "−"}.get(text, f"{text}·")


def _sign(value: float, beside: float = 1.0) -> str:
    """What is added to something as large as ``beside``: nothing where it is too small to matter."""
    return "" if abs(value) < 5e-4 * beside or not value else f" {'−' if value < 0 else '+'} {abs(value):.3g}"


def nearest_named(t: Tensor, shares: Tensor, phi: Tensor) -> Fit:
    """The nearest function of ``NAMED``, or "constant", to values φ ``(N,)`` at inputs t that make up ``shares`` of all.

    Of functions that are nearly as near the first in the list. Everything float64 on the CPU.

    >>> t = torch.linspace(-3, 3, 200, dtype=torch.float64)
    >>> print(nearest_named(t, torch.full_like(t, 1 / 200), 3 * (2 * t + 1).relu() - 4))
    6·relu(t + 0.5) − 4
    """
    t, phi, shares = (values[shares > 0].double() for values in (t, phi, shares))
    shares = shares / shares.sum()
    if len(t) < 2 or _spread(phi, shares) <= 1e-6 * float(phi.abs().max()):
        return Fit("constant", 0.0, 1.0, 0.0, float((shares * phi).sum()) if len(t) else math.nan, 0.0)
    fits = [fit_named(name, t, shares, phi) for name in NAMED]
    limit = _limit(min(fit.error for fit in fits))
    return next(fit for fit in fits if fit.error <= limit)


def fit_named(name: str, t: Tensor, shares: Tensor, phi: Tensor) -> Fit:
    """The nearest a·f(b·t + c) + d of one function f.

    Times the spread of the inputs |b| is from 0.25 to 8, and -c/b lies at most one spread outside of them; b = 1 and c = 0
    where that is nearly as near.
    """
    named, spread = NAMED[name], _spread(t, shares)
    low, high = (float(t.min()) - spread, float(t.max()) + spread) if named.shifted else (0.0, 0.0)
    steep = (math.log(_LEAST), math.log(_MOST)) if named.scaled else (0.0, 0.0)
    scale = spread if named.scaled else 1.0
    signs = _even(-1.0, 1.0, 2) if named.mirrored else _even(1.0, 1.0, 1)
    slopes, centres = _even(*steep, _SLOPES if named.scaled else 1), _even(low, high, _CENTRES if named.shifted else 1)
    places = torch.cartesian_prod(signs, slopes, centres)  # (K, 3)

    def errors(places: Tensor) -> Tensor:
        return _lines(named.function(_inner(places, scale, t)), shares, phi)[2]

    steps = [_even(-step, step, 3) if step else _even(0.0, 0.0, 1) for step in (_step(slopes), _step(centres))]
    around = torch.cartesian_prod(_even(0.0, 0.0, 1), *steps)  # (9, 3), or fewer
    lowest, highest = torch.stack([places.amin(0), places.amax(0)])
    best = places[errors(places).argsort()[:_STARTS]]
    for _ in range(_ROUNDS):
        near = (best.unsqueeze(1) + around).clamp(lowest, highest)  # (S, 9, 3)
        best = near[torch.arange(len(near)), errors(near.flatten(0, 1)).view(len(near), -1).argmin(1)]
        around = around * _SHRINK
    plain = torch.tensor([[1.0, math.log(scale), 0.0]], dtype=torch.float64)
    place = best[errors(best).argmin()]
    place = plain[0] if float(errors(plain)) <= _limit(float(errors(place[None]))) else place
    a, d, error = (float(value[0]) for value in _lines(named.function(_inner(place[None], scale, t)), shares, phi))
    slope = float(place[0] * place[1].exp()) / scale
    return Fit(name, a, slope, -slope * float(place[2]), d, error)


def _limit(error: float) -> float:
    factor, margin = _SIMPLER
    return factor * error + margin


def _even(low: float, high: float, count: int) -> Tensor:
    return torch.linspace(low, high, count, dtype=torch.float64)


def _step(values: Tensor) -> float:
    return float(values[1] - values[0]) if len(values) > 1 else 0.0


def _inner(places: Tensor, scale: float, t: Tensor) -> Tensor:
    """b·(t - centre) of places (sign, log of b times the scale, centre): ``(K, N)``."""
    return (places[:, :1] * places[:, 1:2].exp() / scale) * (t - places[:, 2:])


def _lines(f: Tensor, shares: Tensor, phi: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """a, d and the relative error of the line through (f, φ) of each row of f ``(K, N)``."""
    mean, level = (f @ shares).unsqueeze(1), phi @ shares
    f, centred = f - mean, phi - level
    variance, both, total = f.square() @ shares, f @ (shares * centred), centred.square() @ shares
    a = torch.where(variance > 0, both / variance, 0.0)
    left = (centred - a.unsqueeze(1) * f).square() @ shares  # not total - both²/variance, of which rounding leaves 1e-8
    return a, level - a * mean.squeeze(1), (left / total).sqrt()


def _spread(values: Tensor, shares: Tensor) -> float:
    return float(((values - values @ shares).square() @ shares).sqrt())
