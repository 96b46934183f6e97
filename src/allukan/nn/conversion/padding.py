"""Zeros around the input of a convolution, by a class of its own or a module in front: they become the layer's padding."""

from __future__ import annotations

import copy
from collections.abc import Collection
from typing import Any

import torch
from torch import Tensor, nn

from allukan.nn.conversion.roles import CONVOLUTIONS, PADS, has_hooks, kind_of, passes
from allukan.nn.conversion.units import units
from allukan.nn.conversion.watch import Call
from allukan.ops.linear_maps import PaddedConvolution

Paddings = dict[str, Any]  # by name of the layer: "same", or a pair of widths a dimension


def own_paddings(network: nn.Module) -> Paddings:
    """Of convolutions of other classes than torch's that do nothing but pad with zeros and convolve.

    TensorFlow's "same" (timm's ``Conv2dSame``, ``Conv2dDynamicSamePadding``) or fixed widths (``Conv2dStaticSamePadding``). Not
    the name of the class tells, but what a copy of the module computes, for every remainder of the size by the stride.
    """
    found = {name: _own_padding(module) for name, module in network.named_modules() if isinstance(module, CONVOLUTIONS)}
    return {name: padding for name, padding in found.items() if padding is not None}


def absorbed_paddings(
    network: nn.Module, calls: list[Call], wanted: Collection[str], own: Paddings
) -> tuple[dict[str, str], Paddings]:
    """Layers with the padding module in front of each that they can take along, by name, and the paddings they have then.

    All other paddings become ordinary readers in ``calls``.
    """
    through = {name for name, module in network.named_modules() if passes(module)}
    called = {call.name for call in calls if call.kind == "layer"}
    joint = {
        layer: (pad, padding)
        for layer, pad in units(calls, called, through, kind="pad").items()
        if pad in wanted and (padding := _joint(network.get_submodule(pad), network.get_submodule(layer), own.get(layer)))
    }
    taken = {layer: pad for layer, (pad, _) in joint.items()}
    for call in calls:
        if call.kind == "pad":
            call.kind, call.name = ("move", call.name) if call.name in taken.values() else ("other", call.title)
    return taken, {layer: padding for layer, (_, padding) in joint.items()}


def _joint(pad: Any, layer: Any, own: Any) -> list[tuple[int, int]] | None:
    """The widths of both; None where that is no padding of one layer."""
    if not isinstance(layer, CONVOLUTIONS) or own is not None or isinstance(layer.padding, str) or layer.padding_mode != "zeros":
        return None
    widths = _widths(pad)
    if widths is None or len(widths) != len(layer.padding):
        return None
    return [(before + more, after + more) for (before, after), more in zip(widths, layer.padding, strict=True)]


def _widths(pad: Any) -> list[tuple[int, int]] | None:
    """Zeros before and after, a dimension; None for other values and for a padding that cuts off."""
    if has_hooks(pad) or getattr(pad, "value", 0) != 0 or min(pad.padding) < 0:
        return None
    return list(zip(pad.padding[-2::-2], pad.padding[::-2], strict=True))


def _own_padding(module: Any) -> Any:
    children = list(module.children())
    simple = (
        not has_hooks(module)
        and {name for name, _ in module.named_parameters()} <= {"weight", "bias"}
        and not list(module.buffers())
    )
    if type(module) is kind_of(module) or not simple or isinstance(module.padding, str) or module.padding_mode != "zeros":
        return None
    if children and all(type(child) in PADS or type(child) is nn.Identity for child in children):
        pads = [child for child in children if type(child) in PADS]
        fixed = _joint(pads[0], module, None) if len(pads) == 1 else [(p, p) for p in module.padding] if not pads else None
        return fixed if fixed is not None and _does(module, tuple(fixed)) else None
    return "same" if not children and _does(module, None) else None


@torch.no_grad()
def _does(module: Any, widths: tuple[tuple[int, int], ...] | None) -> bool:
    """Whether the module is the convolution with this padding, in both modes."""
    if module.weight.is_meta or not module.weight.is_floating_point():
        return False
    module = copy.deepcopy(module).float()
    random = torch.Generator().manual_seed(0)
    module.weight.copy_(torch.randn(module.weight.shape, generator=random))
    expected = PaddedConvolution(tuple(module.stride), tuple(module.dilation), module.groups, widths)
    reach = max(d * (k - 1) for k, d in zip(module.kernel_size, module.dilation, strict=True))
    for size in range(reach + 1, reach + 1 + 2 * max(module.stride)):
        x = torch.randn(1, module.in_channels, *[size] * len(module.kernel_size), generator=random).to(module.weight.device)
        y = expected.forward(x, module.weight, module.bias)
        if not all(_agrees(module.train(mode), x, y) for mode in (True, False)):
            return False
    return True


def _agrees(module: nn.Module, x: Tensor, y: Tensor) -> bool:
    try:
        found = module(x)
    except Exception:  # whatever code of others raises where it is not what we think
        return False
    return isinstance(found, Tensor) and found.shape == y.shape and torch.allclose(found, y, rtol=1e-3, atol=1e-3)
