"""Whether every engine computes what the definition says: values and gradients, in a second or two."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor, nn

from allukan.nn import KAConv2d
from allukan.ops import shared_spline

LAYER = "KAConv2d"  # the name of its check
TOLERANCE = 1e-4  # relative; rounding in float32 stays below 1e-5
_SHAPE = (2, 4, 48, 48)  # enough elements for two threads
Tensors = Sequence[Tensor]


@dataclass(frozen=True)
class Check:
    """One thing that was computed: relative RMS errors of value and gradients, or how it failed ("" if it did not)."""

    name: str
    device: str
    value_error: float | None
    gradient_error: float | None
    seconds: float
    failure: str = ""


def check_spline(engine: str, device: str) -> Check:
    """The shared spline of one engine in float32 against "reference" (Cox–de Boor and autograd) in float64."""
    return _compared(engine, device, lambda: _spline(engine, [t.to(device) for t in _inputs()]), _reference)


def _inputs() -> list[Tensor]:
    """x, some of it beyond the grid, coefficients and base weights of two activations."""
    numbers = torch.Generator().manual_seed(0)
    x, coef, weight = (torch.randn(shape, generator=numbers) for shape in (_SHAPE, (2, 8), (2,)))
    return [2 * x, coef, weight]


@cache
def _reference() -> Tensors:
    return _spline("reference", [t.double() for t in _inputs()])


def _spline(engine: str, inputs: Tensors) -> Tensors:
    def spline(x: Tensor, coef: Tensor, weight: Tensor) -> Tensor:
        return shared_spline(x, coef, weight, (-3.0, 3.0), impl=engine)

    return _differentiated(spline, inputs)


def check_layer(device: str) -> Check:
    """A KA convolution as it is used, in float32, against the same layer in float64 on the CPU."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        layer, x = KAConv2d(3, 8, 3, padding=1), torch.randn(2, 3, 24, 24)
        nn.init.normal_(layer.coef, std=0.3)
    true = copy.deepcopy(layer).double()

    def computed(module: nn.Module, x: Tensor) -> Tensors:
        return _differentiated(lambda x, *_: module(x), [x, *module.parameters()])

    return _compared(LAYER, device, lambda: computed(layer.to(device), x.to(device)), lambda: computed(true, x.double()))


def _differentiated(function: Callable[..., Tensor], inputs: Tensors) -> Tensors:
    """The value and its gradients for all inputs, weighted with numbers that do not depend on device and type."""
    inputs = [t.requires_grad_() for t in inputs]
    value = function(*inputs)
    weights = torch.randn(value.shape, generator=torch.Generator().manual_seed(1)).to(value)
    return [value, *torch.autograd.grad(value, inputs, weights)]


def _compared(name: str, device: str, ours: Callable[[], Tensors], true: Callable[[], Tensors]) -> Check:
    start = time.perf_counter()
    try:
        errors = [_error(a, b) for a, b in zip(ours(), true(), strict=True)]
    except Exception as error:  # whatever it is, the others are still to be tested
        told = " ".join(str(error).split())
        return Check(name, device, None, None, time.perf_counter() - start, f"{type(error).__name__}: {told}")
    value, gradient = errors[0], max(errors[1:])
    wrong = not (value <= TOLERANCE and gradient <= TOLERANCE)  # so that NaN is wrong, too
    failure = f"its value is {value:.0e} and its gradient {gradient:.0e} away from the reference" if wrong else ""
    return Check(name, device, value, gradient, time.perf_counter() - start, failure)


def _error(ours: Tensor, true: Tensor) -> float:
    if ours.shape != true.shape:
        raise ValueError(f"shape {tuple(ours.shape)} where {tuple(true.shape)} is right")
    difference = ours.detach().double().cpu() - true.detach()
    return float(difference.norm() / true.detach().norm())
