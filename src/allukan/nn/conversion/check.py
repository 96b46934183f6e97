"""Whether a converted network does what the original does."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from allukan.nn.conversion.watch import tensors_in


def check(
    converted: nn.Module, network: nn.Module, arguments: tuple, expected: Any, reached: set[str], units: dict[str, str]
) -> float:
    """Largest difference to the expected output, relative to it; the run leaves no trace in the buffers.

    The norms of ``units``, layers by name with the norms that they took along, have other names now.
    """
    moved = {norm: f"{layer}.norm" for layer, norm in units.items()}
    called: set[str] = set()
    modes = {module: module.training for module in converted.modules()}
    hooks = [converted.get_submodule(n).register_forward_pre_hook(lambda *_, n=n: called.add(n)) for n in sorted(reached)]
    try:
        with torch.no_grad():
            args, kwargs = copy.deepcopy(arguments)
            output = converted.eval()(*args, **kwargs)
            for name, buffer in network.named_buffers():
                owner, _, leaf = name.rpartition(".")
                converted.get_submodule(moved.get(owner, owner)).get_buffer(leaf).copy_(buffer)
    finally:
        for hook in hooks:
            hook.remove()
        for module, mode in modes.items():
            module.training = mode
    if missing := reached - called:
        raise ValueError(f"{min(missing)!r} is called through something that is no submodule, a list perhaps: use nn.ModuleList")
    return _deviation(output, expected)


def _deviation(output: Any, expected: Any) -> float:
    """Raises ``ValueError`` where it is more than rounding."""
    pairs = list(zip(tensors_in(output), tensors_in(expected), strict=True))
    if not pairs:
        raise ValueError(f"the network returns {type(expected).__name__} without a tensor, so nothing shows who reads what")
    deviations = [_relative(mine, theirs) for mine, theirs in pairs]
    for deviation, (mine, _) in zip(deviations, pairs, strict=True):
        rounding = torch.finfo(mine.dtype if mine.is_floating_point() else torch.float32).eps ** 0.5
        if not deviation <= rounding:  # nor NaN
            raise ValueError(
                f"the converted network differs by {deviation:.1e} of the largest output. Either the original is random in "
                "evaluation mode or returns NaN, or an activation is read by code that torch does not show: name that one in keep"
            )
    return max(deviations)


def _relative(mine: Tensor, theirs: Tensor) -> float:
    if not theirs.numel():
        return 0.0
    mine, theirs = mine.double(), theirs.double()
    return float((mine - theirs).abs().max() / theirs.abs().max().clamp(min=1e-300))
