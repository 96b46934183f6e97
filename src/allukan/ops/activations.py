"""Base activations b(t) of a KA edge with their derivatives in closed form: the branch that lives outside the grid."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

Function = Callable[[Tensor], Tensor]


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


BASES: dict[str, tuple[Function, Function]] = {
    "silu": (F.silu, _silu_derivative),
    "identity": (_identity, torch.ones_like),
    "relu": (F.relu, _relu_derivative),
    "gelu": (F.gelu, _gelu_derivative),
    "tanh": (torch.tanh, _tanh_derivative),
}


CHOICES = (*BASES, "leaky_relu:SLOPE")


def base_function(name: str) -> Function:
    """The base activation b(t), elementwise.

    >>> base_function("leaky_relu:0.5")(torch.tensor([-1.0, 2.0]))
    tensor([-0.5000,  2.0000])
    """
    kind, slope = split_base(name)
    return BASES[kind][0] if kind in BASES else partial(F.leaky_relu, negative_slope=slope)


def base_derivative(name: str) -> Function:
    """Its derivative b'(t), elementwise.

    >>> base_derivative("relu")(torch.tensor([-1.0, 2.0]))
    tensor([0., 1.])
    """
    kind, slope = split_base(name)
    return BASES[kind][1] if kind in BASES else partial(_leaky_relu_derivative, slope=slope)


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
