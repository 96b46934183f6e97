"""What the optimiser does with which parameter: learning rates, decay, and the smoothness of splines."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from allukan.nn import KALayer, SplineActivation, SprecherLinear
from allukan.ops.basis import ORDERED

OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}
_SPLINES = (KALayer, SplineActivation, SprecherLinear)


def parameter_groups(
    network: nn.Module, lr: float, weight_decay: float, spline_lr: float, spline_decay: float
) -> list[dict[str, Any]]:
    """Groups for an optimiser: weights of linear maps, everything else, and splines.

    Splines are the parameters of learned activations (``spline_parameters`` of a layer). In a layer with a spline an edge all
    belong to them, λ too, so that ``spline_lr`` is what U-KAN calls the learning rate of its KAN layers. ``weight_decay``
    pulls weights to zero, those of edges too; ``spline_decay`` the other spline parameters, biases of edges among them. Norms and
    other biases do not decay.
    """
    splines = {id(parameter) for parameter in spline_parameters(network)}
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in network.named_parameters():
        linear = name.rpartition(".")[2] == "weight" and parameter.ndim > 1
        spline = id(parameter) in splines
        decay = weight_decay if linear else spline_decay if spline else 0.0
        groups.setdefault((spline_lr if spline else lr, decay), []).append(parameter)
    return [{"params": parameters, "lr": rate, "weight_decay": decay} for (rate, decay), parameters in groups.items()]


def stretch(schedule: torch.optim.lr_scheduler.CosineAnnealingLR, epochs: int) -> None:
    """Make a schedule that has come some way the one over ``epochs``: at every epoch η + (lr - η)(1 + cos(π epoch / epochs)) / 2.

    A schedule of this length stays as it is, to the bit.

    >>> schedule = torch.optim.lr_scheduler.CosineAnnealingLR(torch.optim.SGD([torch.zeros(1)], lr=1.0), T_max=1)
    >>> schedule.last_epoch = 1
    >>> stretch(schedule, 2)
    >>> round(schedule.optimizer.param_groups[0]["lr"], 6)
    0.5
    """
    if epochs == schedule.T_max:
        return
    schedule.T_max = epochs
    for group, lr in zip(schedule.optimizer.param_groups, schedule.base_lrs, strict=True):
        down = (1 + math.cos(math.pi * schedule.last_epoch / epochs)) / 2
        group["lr"] = schedule.eta_min + (lr - schedule.eta_min) * down
    schedule._last_lr = [group["lr"] for group in schedule.optimizer.param_groups]


@contextmanager
def warming(optimizer: torch.optim.Optimizer, share: float) -> Iterator[None]:
    """Within, every learning rate is this share of what it was; a schedule finds them whole again.

    >>> optimizer = torch.optim.SGD([torch.zeros(1)], lr=1.0)
    >>> with warming(optimizer, 0.25):
    ...     optimizer.param_groups[0]["lr"]
    0.25
    >>> optimizer.param_groups[0]["lr"]
    1.0
    """
    rates = [group["lr"] for group in optimizer.param_groups]
    try:
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = rate * share
        yield
    finally:
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = rate


def spline_parameters(network: nn.Module) -> list[nn.Parameter]:
    """The parameters of every learned activation of a network."""
    return [parameter for module in network.modules() if isinstance(module, _SPLINES) for parameter in module.spline_parameters()]


def roughness(network: nn.Module) -> Tensor:
    """Σ over the layers of the mean over activations of Σ_m (c_{m+1} - 2 c_m + c_{m-1})², a scalar: 0 where splines are straight.

    Only of bases whose functions follow each other along the grid (``ops.basis.ORDERED``). Source: the penalty of P-splines
    (Eilers and Marx, Statistical Science 11, 1996).
    """
    rough = [coef.diff(n=2, dim=-1).square().sum(-1).mean() for coef in _coefficients(network)]
    return torch.stack(rough).sum()


def has_roughness(network: nn.Module) -> bool:
    """Whether ``roughness`` has anything to measure."""
    return any(True for _ in _coefficients(network))


def _coefficients(network: nn.Module) -> Iterator[Tensor]:
    for module in network.modules():
        if isinstance(module, KALayer | SplineActivation) and module.spline.basis in ORDERED:
            yield module.coef
