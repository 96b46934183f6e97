"""Base activations b(t) of a KA edge, by name: the branch that lives outside the grid.

A new one is one entry of ``BASES``; an engine that does not know it refuses it by name.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

Function = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Base:
    """A base activation, elementwise; NaN stays NaN.

    Attributes:
        function: b(t), differentiable any number of times.
        derivative: b'(t) in closed form, finite at ±inf.
        flops: of b, and of b' where b is known (conventions of ``costs.flops``).
        curved: half-width beyond which b is two straight lines, to the rounding of float32; 0 for two that meet in 0.
        slopes: of these lines, to the right and to the left.
        step: of a table of cubics in Chebyshev's nodes that is off by 1e-8 in value and 1e-6 in slope.
        kinks: where b is not smooth; 0 need not be named where two lines meet in it.
    """

    function: Function
    derivative: Function
    flops: tuple[int, int]
    curved: float = 0.0
    slopes: tuple[float, float] = (1.0, 0.0)
    step: float = math.inf
    kinks: tuple[float, ...] = ()


def _silu_derivative(x: Tensor) -> Tensor:
    s = torch.sigmoid(x)
    return s * (1 + x * (1 - s))


def _gelu_derivative(x: Tensor) -> Tensor:
    density = torch.exp(-0.5 * x * x) / math.sqrt(2 * math.pi)
    return 0.5 * (1 + torch.erf(x / math.sqrt(2))) + x * density


def _relu_derivative(x: Tensor) -> Tensor:
    return torch.where(x.isnan(), x, (x > 0).to(x.dtype))


def _identity(x: Tensor) -> Tensor:
    return x


def _leaky_relu_derivative(x: Tensor, slope: float) -> Tensor:
    return torch.where(x > 0, 1.0, torch.where(x.isnan(), x, slope))


def _tanh_derivative(x: Tensor) -> Tensor:
    return 1 - torch.tanh(x).square()


def _clipped_derivative(x: Tensor, low: float, high: float) -> Tensor:
    return torch.where(x.isnan(), x, ((x > low) & (x < high)).to(x.dtype))


def _hardswish_derivative(x: Tensor) -> Tensor:
    return torch.where(x > 3, 1.0, torch.where(x < -3, 0.0, x / 3 + 0.5))


def _elu_derivative(x: Tensor) -> Tensor:
    return torch.exp(torch.where(x > 0, 0.0, x))


def _mish_derivative(x: Tensor) -> Tensor:
    t = torch.tanh(F.softplus(x))
    return t + x * (1 - t * t) * torch.sigmoid(x)


def _sigmoid_derivative(x: Tensor) -> Tensor:
    s = torch.sigmoid(x)
    return s * (1 - s)


_relu6_derivative = partial(_clipped_derivative, low=0.0, high=6.0)
_hardtanh_derivative = partial(_clipped_derivative, low=-1.0, high=1.0)
BASES: dict[str, Base] = {
    "silu": Base(F.silu, _silu_derivative, (4, 4), curved=18.0, step=1 / 16),
    "identity": Base(_identity, torch.ones_like, (0, 0), slopes=(1.0, 1.0)),
    "relu": Base(F.relu, _relu_derivative, (1, 1)),
    "gelu": Base(F.gelu, _gelu_derivative, (5, 6), curved=7.0, step=1 / 32),
    "tanh": Base(torch.tanh, _tanh_derivative, (1, 2), curved=9.5, slopes=(0.0, 0.0), step=1 / 32),
    "relu6": Base(F.relu6, _relu6_derivative, (2, 2), curved=6.0, slopes=(0.0, 0.0), kinks=(0.0, 6.0)),
    "hardswish": Base(F.hardswish, _hardswish_derivative, (5, 4), curved=3.0, kinks=(-3.0, 3.0)),
    "hardtanh": Base(F.hardtanh, _hardtanh_derivative, (2, 2), curved=1.0, slopes=(0.0, 0.0), kinks=(-1.0, 1.0)),
    "elu": Base(F.elu, _elu_derivative, (3, 2), curved=17.0, step=1 / 16, kinks=(0.0,)),
    "mish": Base(F.mish, _mish_derivative, (5, 8), curved=20.0, step=1 / 32),
    "softplus": Base(F.softplus, torch.sigmoid, (3, 3), curved=17.0, step=1 / 16),
    "sigmoid": Base(torch.sigmoid, _sigmoid_derivative, (3, 2), curved=18.0, slopes=(0.0, 0.0), step=1 / 16),
}
CHOICES = (*BASES, "leaky_relu:SLOPE")


def base_activation(name: str) -> Base:
    """All that is known of a base; raises ``ValueError`` for one that does not exist.

    >>> base_activation("leaky_relu:0.5").slopes
    (1.0, 0.5)
    """
    kind, slope = split_base(name)
    if kind in BASES:
        return BASES[kind]
    leaky, derivative = partial(F.leaky_relu, negative_slope=slope), partial(_leaky_relu_derivative, slope=slope)
    return Base(leaky, derivative, (2, 1), slopes=(1.0, slope))


def base_function(name: str) -> Function:
    """The base activation b(t), elementwise.

    >>> base_function("leaky_relu:0.5")(torch.tensor([-1.0, 2.0]))
    tensor([-0.5000,  2.0000])
    """
    return base_activation(name).function


def base_derivative(name: str) -> Function:
    """Its derivative b'(t), elementwise.

    >>> base_derivative("relu")(torch.tensor([-1.0, 2.0]))
    tensor([0., 1.])
    """
    return base_activation(name).derivative


def split_base(name: str) -> tuple[str, float]:
    """Kind of a base and its parameter, 0 where it has none; raises ``ValueError`` for a base that does not exist.

    >>> split_base("leaky_relu:0.01"), split_base("silu")
    (('leaky_relu', 0.01), ('silu', 0.0))
    """
    if name in BASES:
        return name, 0.0
    kind, _, parameter = str(name).partition(":")
    if kind != "leaky_relu":
        raise ValueError(f"unknown base activation {name!r}; choose one of {', '.join(CHOICES)}")
    try:
        slope = float(parameter)
    except ValueError:
        slope = math.nan
    if not 0 <= slope < 1:
        raise ValueError(f"the base activation {name!r} needs a slope from 0 to below 1, as in 'leaky_relu:0.01'")
    return kind, slope
