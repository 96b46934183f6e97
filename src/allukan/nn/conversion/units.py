"""Which layers can take the norm in front of them along: normalise → φ → mix as one operation, which keeps its input only."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection

from torch import nn
from torch.nn.modules.instancenorm import _InstanceNorm

from allukan.nn.conversion.roles import has_hooks
from allukan.nn.conversion.watch import Call
from allukan.nn.norm import make_norm


def units(calls: list[Call], layers: Collection[str], through: Collection[str], kind: str = "norm") -> dict[str, str]:
    """Layers with the norm that each can take along, by name, as far as the ``calls`` tell; or what else is of the ``kind``.

    It can where whatever leaves the norm is read by that layer alone, directly or ``through`` modules that will do nothing
    (absorbed activations, dropout of 0), the layer reads nothing else, and the input of the norm stays what it was, as the layer
    reads it later than the norm did.

    >>> norm = Call("norm", "bn", [None])
    >>> act = Call("activation", "act", [norm])
    >>> units([norm, act, Call("layer", "conv", [act])], {"conv"}, {"act"})
    {'conv': 'bn'}
    >>> units([norm, act, Call("layer", "conv", [act]), Call("other", "the skip", [act])], {"conv"}, {"act"})
    {}
    """
    readers: dict[Call, list[Call]] = defaultdict(list)
    for call in calls:
        for maker in call.inputs:
            if maker is not None:
                readers[maker].append(call)
    norm_of: dict[str, set[str]] = defaultdict(set)  # "" is anything else
    layer_of: dict[str, set[str]] = defaultdict(set)
    taken: set[Call] = set()
    for call in calls:
        if call.kind == kind:
            reader = _layer_behind(call, readers, layers, through)
            layer_of[call.name].add(reader.name if reader else "")
            if reader:
                norm_of[reader.name].add(call.name)
                taken.add(reader)
    for call in calls:
        if call.kind == "layer" and call not in taken:
            norm_of[call.name].add("")
    pairs = {layer: min(norms) for layer, norms in norm_of.items() if len(norms) == 1}
    return {layer: norm for layer, norm in pairs.items() if norm and layer_of[norm] == {layer}}


def _layer_behind(norm: Call, readers: dict[Call, list[Call]], layers: Collection[str], through: Collection[str]) -> Call | None:
    """The call of a layer that alone reads what this call of a norm made."""
    call = norm
    while not norm.changed and len(readers[call]) == 1:
        (call,) = readers[call]
        if len(call.inputs) != 1 or call.name not in (layers if call.kind == "layer" else through):
            return None
        if call.kind == "layer":
            return call
    return None


def fits(norm: nn.Module, layer: nn.Module, dims: int) -> bool:
    """Whether a KA layer in the place of ``layer``, called with so many dimensions, does what the norm did."""
    linear, rows = isinstance(layer, nn.Linear), isinstance(norm, nn.LayerNorm)
    if rows is not linear and not (linear and dims == 2):  # rows are normalised along the last dimension, all else dimension 1
        return False
    if has_hooks(norm) or (isinstance(norm, _InstanceNorm) and norm.track_running_stats):
        return False
    try:
        make_norm(norm, layer.in_features if linear else layer.in_channels, 0 if linear else dims - 2)  # type: ignore[arg-type]
    except ValueError:
        return False
    return True
