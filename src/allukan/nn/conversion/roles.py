"""What a module of torch is to the conversion: a layer, an activation with or without a base, or something else."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from torch import nn

from allukan.nn.conv import KAConv1d, KAConv2d, KAConv3d
from allukan.nn.linear import KALinear

LAYERS: dict[type[nn.Module], type[nn.Module]] = {
    nn.Conv1d: KAConv1d,
    nn.Conv2d: KAConv2d,
    nn.Conv3d: KAConv3d,
    nn.Linear: KALinear,
}
CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
PADS = (nn.ZeroPad1d, nn.ZeroPad2d, nn.ZeroPad3d, nn.ConstantPad1d, nn.ConstantPad2d, nn.ConstantPad3d)
_BASES: dict[type[nn.Module], str] = {nn.ReLU: "relu", nn.SiLU: "silu", nn.Tanh: "tanh", nn.GELU: "gelu", nn.ReLU6: "relu6"}
_BASES |= {nn.Hardswish: "hardswish", nn.Hardtanh: "hardtanh", nn.ELU: "elu", nn.Mish: "mish", nn.Softplus: "softplus"}
_BASES |= {nn.Sigmoid: "sigmoid"}
_FIXED: dict[type[nn.Module], tuple[tuple[str, Any, str], ...]] = {  # options of activations that their bases have not
    nn.GELU: (("approximate", "none", "is approximated by {0.approximate}"),),
    nn.ELU: (("alpha", 1, "has alpha {0.alpha} and the base 1"),),
    nn.Hardtanh: (
        ("min_val", -1, "begins at {0.min_val} and the base at -1"),
        ("max_val", 1, "ends at {0.max_val} and the base at 1"),
    ),
    nn.Softplus: (
        ("beta", 1, "has beta {0.beta} and the base 1"),
        ("threshold", 20, "has threshold {0.threshold} and the base 20"),
    ),
}
_MOVES = (nn.Flatten, nn.Unflatten)
_NORMS: tuple[type[nn.Module], ...] = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm, nn.GroupNorm)
_NORMS += (nn.LayerNorm, nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d)
_POOLS = (nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d)
_DROPOUTS = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout, nn.FeatureAlphaDropout)
_CLOSED = (nn.MultiheadAttention, nn.TransformerEncoderLayer)  # they read their layers' weights, past the layers' forward
_HOOKS = ("_forward_pre_hooks", "_forward_hooks", "_backward_pre_hooks", "_backward_hooks")


def role(module: nn.Module) -> str:
    """The kind of ``watch.Call`` that a call of the module is; "" for one that only calls others.

    >>> role(nn.Conv2d(1, 1, 3)), role(nn.ELU()), role(nn.LayerNorm(1)), role(nn.Dropout(0.5)), role(nn.Sequential())
    ('layer', 'activation', 'norm', 'other', '')
    """
    if type(module) in LAYERS:
        return "layer"
    if type(module) in _POOLS:
        return "other" if module.return_indices else "pool"
    if type(module) in _NORMS:
        return "norm"
    if type(module) in PADS:
        return "pad"
    if type(module) in _MOVES or passes(module):
        return "move"
    if isinstance(module, _CLOSED):
        return "other"
    if type(module).__module__ == nn.ReLU.__module__:
        return "activation"
    is_container = isinstance(module, nn.Sequential | nn.ModuleList | nn.ModuleDict) or any(True for _ in module.children())
    return "" if is_container else "other"


def passes(module: nn.Module) -> bool:
    """Whether it hands on what it is given."""
    return type(module) is nn.Identity or (isinstance(module, _DROPOUTS) and module.p == 0)


def kind_of(layer: nn.Module) -> type[nn.Module]:
    """Torch's class of a layer.

    >>> kind_of(nn.Conv2d(1, 1, 3)).__name__
    'Conv2d'
    """
    return next(kind for kind in LAYERS if isinstance(layer, kind))


def layers_of(network: nn.Module, others: Collection[str] = ()) -> dict[str, str]:
    """Every convolution and linear layer by name, with the obstacle to its conversion, "" for none.

    Layers of other classes than torch's are those named in ``others``.
    """
    closed = {inner: outer for outer in network.modules() if isinstance(outer, _CLOSED) for inner in outer.modules()}
    found = {}
    for name, module in network.named_modules():
        if type(module) in LAYERS or name in others:
            found[name] = ""
            if module in closed:
                found[name] = f"{type(closed[module]).__name__} reads its weight and does not call it"
            elif has_hooks(module):
                found[name] = "it carries hooks, of a weight or spectral norm perhaps, which a new layer would lose"
            elif not module.weight.is_floating_point():  # type: ignore[union-attr,operator]
                found[name] = f"its weight is {module.weight.dtype}"
    return found


def has_hooks(module: nn.Module) -> bool:
    """Whether somebody has hung hooks on the module."""
    return any(getattr(module, name) for name in _HOOKS)


def base_of(activation: Any) -> tuple[str, str]:
    """The base of an activation module and "", or "" and why it has none.

    >>> base_of(nn.LeakyReLU(0.2)), base_of(nn.PReLU(3)), base_of(nn.SELU())
    (('leaky_relu:0.2', ''), ('leaky_relu:0.25', ''), ('', 'SELU is none of the base activations'))
    """
    kind = type(activation)
    if has_hooks(activation):
        return "", "it carries hooks"
    if kind is nn.PReLU:
        slopes = activation.weight.unique().tolist()
        several = f"PReLU has {activation.num_parameters} slopes, which differ, and a layer one activation"
        return _leaky(slopes[0]) if len(slopes) == 1 else ("", several)
    if kind is nn.LeakyReLU:
        return _leaky(float(activation.negative_slope))
    if kind is nn.Hardtanh and (activation.min_val, activation.max_val) == (0, 6):
        return "relu6", ""
    if reason := next((why for name, value, why in _FIXED.get(kind, ()) if getattr(activation, name) != value), ""):
        return "", f"{kind.__name__} {reason.format(activation)}"
    base = _BASES.get(kind, "")
    return base, "" if base else f"{kind.__name__} is none of the base activations"


def _leaky(slope: float) -> tuple[str, str]:
    return (f"leaky_relu:{slope!r}", "") if 0 <= slope < 1 else ("", f"its slope {slope} is not from 0 to below 1")
