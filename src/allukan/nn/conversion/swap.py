"""New modules in the places of the old ones."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from torch import nn

from allukan.nn.conversion.roles import LAYERS, kind_of
from allukan.nn.layer import KALayer
from allukan.nn.spline import Spline


def swap(
    network: nn.Module,
    layers: dict[str, str],
    absorbed: Iterable[str],
    units: dict[str, str],
    paddings: dict[str, Any],
    spline: Spline,
) -> nn.Module:
    """The network with new modules in every place where the old ones were registered; norms of ``units`` go into their layers.

    ``paddings`` are those of layers that have another than before.
    """
    new: dict[nn.Module, nn.Module] = {}
    for name, base in layers.items():
        old = network.get_submodule(name)
        norm = network.get_submodule(units[name]) if name in units else None
        new[old] = _ka_layer(old, base, spline, norm, paddings.get(name))
    new |= {network.get_submodule(name): nn.Identity() for name in (*absorbed, *units.values())}
    for parent in list(network.modules()):
        for name, child in list(parent._modules.items()):
            if child in new:
                new[child].training = child.training  # not that of a norm in it
                setattr(parent, name, new[child])
    return new.get(network, network)


def _ka_layer(old: Any, base: str, spline: Spline, norm: nn.Module | None, padding: Any) -> KALayer:
    """The KA layer that is ``old`` behind a norm and an activation, with the very parameters of ``old``."""
    outputs, has_bias = old.weight.shape[0], old.bias is not None
    options: dict[str, Any] = {"spline": replace(spline.fitting(outputs), base=base), "norm": norm, "device": "meta"}
    if isinstance(old, nn.Linear):
        new: Any = LAYERS[nn.Linear](old.in_features, outputs, has_bias, **options)
    else:
        shape = old.kernel_size, old.stride, old.padding if padding is None else padding, old.dilation
        new = LAYERS[kind_of(old)](old.in_channels, outputs, *shape, old.groups, has_bias, old.padding_mode, **options)
    new.weight, new.bias, weight = old.weight, old.bias, old.weight.detach()
    edges = spline.sharing == "edge"  # an edge's base weight is the weight itself
    new.base_weight = nn.Parameter(weight.flatten().clone() if edges else weight.new_ones(new.base_weight.shape))
    new.coef = nn.Parameter(weight.new_zeros(new.coef.shape))
    for parameter in (new.base_weight, new.coef):  # of a frozen layer
        parameter.requires_grad_(old.weight.requires_grad)
    return new  # type: ignore[no-any-return]
