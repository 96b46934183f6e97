"""What a candidate changes beside options that allukan has: of the network before the training, and at every step of it.

Every trick has one value. What pays becomes an option of allukan; the rest stays here, so that its row can be measured again.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from types import MethodType
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from typing_extensions import override

from allukan.models.blocks import Residual
from allukan.nn import KAConv2d, KALayer
from allukan.nn.norm import normalised
from allukan.ops import basis_expansion, shared_spline
from allukan.training.parameters import roughness


@dataclass
class Training:
    """A training under way."""

    network: nn.Module
    averaged: nn.Module
    optimizer: torch.optim.Optimizer
    steps: int
    step: int = 0

    @property
    def share(self) -> float:
        """How much of it is over."""
        return self.step / self.steps

    def splines(self, network: nn.Module | None = None) -> list[KALayer]:
        """Every KA layer."""
        return [module for module in (network or self.network).modules() if isinstance(module, KALayer)]


class Trick:
    """Does nothing: one overrides what it needs."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def build(self, network: nn.Module) -> None:
        """Changes a network that has not been trained yet."""

    def moments(self, steps: int) -> tuple[int, ...]:
        """The steps before which it acts, of so many."""
        return ()

    def act(self, training: Training) -> None:
        """Before such a step."""

    def penalty(self, network: nn.Module) -> Tensor | float:
        """Added to the loss."""
        return 0.0


class Smooth(Trick):
    """Weight of the P-spline penalty: mean over activations of the squared second differences, summed over layers."""

    @override
    def penalty(self, network: nn.Module) -> Tensor:
        return self.value * roughness(network)  # type: ignore[no-any-return]


class Straight(Trick):
    """Decay towards a·b + c: weight of the mean square, over normal inputs, of what a and c leave of φ, summed over layers."""

    @override
    def build(self, network: nn.Module) -> None:
        self.forms = {layer: _left_over(layer) for layer in network.modules() if isinstance(layer, KALayer)}

    @override
    def penalty(self, network: nn.Module) -> Tensor:
        self.forms = {layer: form.to(layer.coef.device) for layer, form in self.forms.items()}  # it is moved after it is built
        left = [((layer.coef @ form) * layer.coef).sum(1).mean() for layer, form in self.forms.items()]
        return self.value * torch.stack(left).sum()  # type: ignore[no-any-return]


def _left_over(layer: KALayer) -> Tensor:
    """The quadratic form ``(M, M)`` of the coefficients that gives the mean square of what remains beside b and 1."""
    s = layer.spline
    t = torch.linspace(-4, 4, 801, dtype=torch.float64).view(-1, 1)
    density = torch.exp(-0.5 * t * t).sqrt()
    found = basis_expansion(t, s.grid_size, s.spline_order, s.grid_range, basis=s.basis, base=s.base) * density
    known, splines = torch.cat([found[:, :1], density], 1), found[:, 1:]
    rest = splines - known @ torch.linalg.lstsq(known, splines).solution
    return (rest.T @ rest / density.square().sum()).to(layer.coef.dtype)


class Together(Trick):
    """φ_layer + small δ_channel: weight of the mean square distance of the coefficients from their mean over the channels."""

    @override
    def penalty(self, network: nn.Module) -> Tensor:
        coefs = [layer.coef for layer in network.modules() if isinstance(layer, KALayer) and len(layer.coef) > 1]
        return self.value * torch.stack([(c - c.mean(0, keepdim=True)).square().sum(1).mean() for c in coefs]).sum()  # type: ignore[no-any-return]


class Diverse(Trick):
    """Activations start apart: a smooth random curve of this deviation is added to each."""

    @override
    def build(self, network: nn.Module) -> None:
        for layer in network.modules():
            if isinstance(layer, KALayer):
                with torch.no_grad():
                    walk = torch.randn_like(layer.coef).cumsum(1)
                    walk -= walk.mean(1, keepdim=True)
                    layer.coef.add_(self.value * walk / walk.std())


class Mirror(Trick):
    """Every second activation starts as b(-t) instead of b(t); of SiLU: b(t) - t, and the line is a spline on the grid."""

    @override
    def build(self, network: nn.Module) -> None:
        for layer in network.modules():
            if isinstance(layer, KALayer) and len(layer.coef) > 1:
                s = layer.spline
                lo, width = s.grid_range[0], (s.grid_range[1] - s.grid_range[0]) / s.grid_size
                middle = lo + width * (torch.arange(s.coefficients) - (s.spline_order - 1) / 2)  # Greville abscissae
                with torch.no_grad():
                    layer.coef[1::2] -= self.value * middle


class PowerLaw(Trick):
    """Power-law initialisation (arXiv 2509.03417): deviation (n (M + 1))^-α of w's rest and of c; the value is α."""

    @override
    def build(self, network: nn.Module) -> None:
        for layer in network.modules():
            if isinstance(layer, KALayer):
                count = layer.weight[0].numel() * layer.spline.coefficients
                with torch.no_grad():
                    layer.coef.add_(torch.randn_like(layer.coef) * count**-self.value)


class Release(Trick):
    """Coefficients are frozen for this share of the training."""

    @override
    def moments(self, steps: int) -> tuple[int, ...]:
        return 0, math.ceil(self.value * steps)

    @override
    def act(self, training: Training) -> None:
        for layer in training.splines():
            layer.coef.requires_grad_(training.share >= self.value)


class Refine(Trick):
    """Coarse to fine: at half of the training every grid becomes so many times finer; the functions stay."""

    @override
    def moments(self, steps: int) -> tuple[int, ...]:
        return (steps // 2,)

    @override
    def act(self, training: Training) -> None:
        for network in (training.network, training.averaged):
            for layer in training.splines(network):
                old = layer.coef
                layer.refine(self.value * layer.spline.grid_size)
                for group in training.optimizer.param_groups:
                    group["params"] = [layer.coef if p is old else p for p in group["params"]]


class Windows(Trick):
    """The layer that sees the image has an activation an output, as in the paper's formula: windows of intensity."""

    @override
    def build(self, network: nn.Module) -> None:
        encoder: Any = network.encoder
        stage = encoder[0]
        spline = replace(stage.fork.spline, sharing="output")
        first, side = (
            KAConv2d(stage.fork.in_channels, stage.fork.out_channels, size, padding=size // 2, bias=False, spline=spline)
            for size in (3, 1)
        )
        encoder[0] = Residual(nn.Sequential(first, *stage.units), side, stage.drop)


class DropKAN(Trick):
    """Dropout of φ(x) before the mix with this probability (arXiv 2407.13044), by separate operations."""

    @override
    def build(self, network: nn.Module) -> None:
        _compose(network, lambda layer, x: F.dropout(_activated(layer, x), self.value, layer.training))


class Quantiles(Trick):
    """Knots where a normalised input is found: φ(t) = w b(t) + S(Φ(t)) with Φ the normal distribution's, S on [0, 1]."""

    @override
    def build(self, network: nn.Module) -> None:
        def activated(layer: KALayer, x: Tensor) -> Tensor:
            level = 0.5 * (1 + torch.erf(x / math.sqrt(2)))
            base = _activated(layer, x, coef=torch.zeros_like(layer.coef))
            return base + _activated(layer, level, base_weight=torch.zeros_like(layer.base_weight), grid_range=(0.0, 1.0))

        _compose(network, activated)


def _activated(layer: KALayer, x: Tensor, **other: Any) -> Tensor:
    """φ(x) of a layer, some of its values changed."""
    s = layer.spline
    given = {"coef": layer.coef, "base_weight": layer.base_weight, "grid_range": s.grid_range, **other}
    return shared_spline(x, spline_order=s.spline_order, basis=s.basis, base=s.base, blocks=layer.plan.blocks, **given)


def _compose(network: nn.Module, activated: Callable[[KALayer, Tensor], Tensor]) -> None:
    """Every layer by separate operations: norm, what ``activated`` says, linear maps."""

    def mixed(layer: KALayer, x: Tensor, maps: tuple[Any, ...]) -> tuple[Tensor, ...]:
        h = activated(layer, normalised(layer.norm, x))
        return tuple(one.linear.forward(h, one.weight, one.bias) for one in maps)

    for layer in network.modules():
        if isinstance(layer, KALayer):
            layer.mixed = MethodType(mixed, layer)  # type: ignore[method-assign]


TRICKS: dict[str, Callable[[Any], Trick]] = {
    "smooth": Smooth,
    "straight": Straight,
    "together": Together,
    "diverse": Diverse,
    "mirror": Mirror,
    "power": PowerLaw,
    "release": Release,
    "refine": Refine,
    "windows": Windows,
    "dropkan": DropKAN,
    "quantiles": Quantiles,
}
