"""Batch norms of a trained network folded into the layers before them: the same function with fewer operations."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from copy import deepcopy
from itertools import islice, pairwise
from typing import Any, TypeVar

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils.fusion import fuse_conv_bn_weights
from torch.nn.utils.parametrize import is_parametrized

from allukan.models.blocks import Fork, ForkedResidual, TokenBlock
from allukan.nn import KAConv, KALayer, KALinear

M = TypeVar("M", bound=nn.Module)
_CONVOLUTIONS = (KAConv, nn.Conv1d, nn.Conv2d, nn.Conv3d)
_LINEAR = (KALinear, nn.Linear)
_KNOWN = ("allukan", "monai", "dynamic_network_architectures", "torch")  # packages whose code calls a sequence as a whole


def fuse(model: M) -> M:
    """A copy for inference: in evaluation mode, without gradients of its parameters, batch norms folded into λ and β.

    In evaluation a batch norm is s·y + b a channel, so the layer before it, y_q = Σ_p λ_qp φ(x_p) + β_q, takes it over with
    λ_qp s_q and β_q s_q + b_q; the same for a convolution or a linear layer. φ is what it was. Folded are a convolution and
    the batch norm next to it in a ``Sequential``, however nested, be it a module or the ``norm`` of the next KA convolution; the
    first unit of a stage and the norm of the second; and a linear layer with the first norm of its mixer in a ``TokenBlock``.
    A ``Sequential`` is taken to be called as a whole, but not where it belongs to a class of somebody else, whose code may take
    the outputs of its parts as features. What occurs twice in the model, has hooks or a parametrisation stays as it
    is, and so do norms behind skips, pooling and resizing, and the other kinds, whose scale depends on the input.

    >>> from allukan.nn import KAConv2d
    >>> fuse(nn.Sequential(KAConv2d(3, 8, 3), nn.BatchNorm2d(8)))[1]
    Identity()
    """
    fused = deepcopy(model).eval().requires_grad_(False)
    folded = set()
    for layer, norm in _foldable(fused):
        _fold(layer, norm)
        folded.add(norm)
    for module in list(fused.modules()):
        for name, child in module.named_children():
            if child in folded:
                setattr(module, name, None if isinstance(module, KALayer) else nn.Identity())
    return fused


def _foldable(model: nn.Module) -> list[tuple[nn.Module, _BatchNorm]]:
    """Layers with the batch norm that can move into them, each pair once."""
    occurs = Counter(module for _, module in model.named_modules(remove_duplicate=False))
    apart = {child for owner in model.modules() if not _known(owner) for child in owner.children() if not _named(child)}
    pairs = dict.fromkeys(pair for module in model.modules() if module not in apart for pair in _neighbours(module))
    return [
        (layer, norm)
        for layer, norm in pairs
        if isinstance(norm, _BatchNorm)
        and type(norm).forward is _BatchNorm.forward
        and norm.running_mean is not None
        and all(occurs[m] == 1 and not _watched(m) for m in (layer, norm))
    ]


def _known(module: nn.Module) -> bool:
    return type(module).__module__.partition(".")[0] in _KNOWN


def _named(module: nn.Module) -> bool:
    """Whether it is more to a known package than a list of modules."""
    return type(module) is not nn.Sequential and _known(module)


def _neighbours(module: nn.Module) -> Iterator[tuple[nn.Module, nn.Module]]:
    """Modules of which the second gets the output of the first, channel by channel, and nobody else does."""
    if _plain(module):
        yield from (pair for pair in pairwise(_steps(module)) if _computes(pair[0], _CONVOLUTIONS))
    elif isinstance(module, ForkedResidual) and not _watched(module.fork):
        main = module.fork.main if isinstance(module.fork, Fork) else module.fork
        yield from ((main, norm) for norm in islice(_steps(module.units), 1))
    elif isinstance(module, TokenBlock):
        for linear, mixer in zip(module.linears, module.mixers, strict=True):
            *_, last = _steps(linear)
            if _computes(last, _LINEAR):
                yield last, next(_steps(mixer))


def _steps(module: nn.Module) -> Iterator[nn.Module]:
    """What runs one after the other, nested ``Sequential`` opened, and the norm of a KA convolution before it."""
    if _plain(module):
        for child in module.children():
            yield from _steps(child)
        return
    if isinstance(module, KAConv) and module.norm is not None and not _watched(module):
        yield module.norm
    yield module


def _plain(module: nn.Module) -> bool:
    return isinstance(module, nn.Sequential) and type(module).forward is nn.Sequential.forward and not _watched(module)


def _computes(module: nn.Module, kinds: tuple[type[nn.Module], ...]) -> bool:
    """Whether it is one of these and no subclass that computes otherwise, as one that standardises its weight does."""
    return isinstance(module, kinds) and (isinstance(module, KALayer) or type(module) in kinds) and "forward" not in vars(module)


def _watched(module: nn.Module) -> bool:
    """Whether somebody sees what goes in or comes out, or makes the weights anew at every call."""
    return bool(module._forward_hooks or module._forward_pre_hooks) or is_parametrized(module)


@torch.no_grad()
def _fold(layer: Any, norm: Any) -> None:
    """λ (with one spline an edge also w, which λ does not scale there) and β that do what the norm does."""
    statistics = (norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias)
    if isinstance(layer, KALayer) and layer.spline.sharing == "edge":
        base, _ = fuse_conv_bn_weights(layer.base_weight.view_as(layer.weight), None, *statistics)
        layer.base_weight.copy_(base.flatten())
    layer.weight, layer.bias = fuse_conv_bn_weights(layer.weight, layer.bias, *statistics)
