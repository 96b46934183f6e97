"""Base activations b(t) of a KA edge with their derivatives in closed form: the branch that lives outside the grid."""

from __future__ import annotations

import math
from collections.abc import Callable

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


def _tanh_derivative(x: Tensor) -> Tensor:
    return 1 - torch.tanh(x).square()


BASES: dict[str, tuple[Function, Function]] = {
    "silu": (F.silu, _silu_derivative),
    "identity": (_identity, torch.ones_like),
    "relu": (F.relu, _relu_derivative),
    "gelu": (F.gelu, _gelu_derivative),
    "tanh": (torch.tanh, _tanh_derivative),
}


def base_function(name: str) -> Function:
    """The base activation b(t), elementwise.

    >>> base_function("relu")(torch.tensor([-1.0, 2.0]))
    tensor([0., 2.])
    """
    return _lookup(name)[0]


def base_derivative(name: str) -> Function:
    """Its derivative b'(t), elementwise.

    >>> base_derivative("relu")(torch.tensor([-1.0, 2.0]))
    tensor([0., 1.])
    """
    return _lookup(name)[1]


def _lookup(name: str) -> tuple[Function, Function]:
    if name not in BASES:
        raise ValueError(f"unknown base activation {name!r}; choose one of {', '.join(BASES)}")
    return BASES[name]
