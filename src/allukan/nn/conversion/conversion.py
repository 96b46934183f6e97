"""``convert``: watch a network, let its activations move into the layers behind them, swap the modules."""

from __future__ import annotations

import copy
from collections.abc import Collection, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.nn.utils.parametrize import ParametrizationList, is_parametrized

from allukan.nn.conversion.absorb import absorb
from allukan.nn.conversion.check import check
from allukan.nn.conversion.functional import with_modules
from allukan.nn.conversion.padding import Paddings, absorbed_paddings, own_paddings
from allukan.nn.conversion.report import Conversion
from allukan.nn.conversion.roles import CONVOLUTIONS, base_of, layers_of, passes, role
from allukan.nn.conversion.swap import swap
from allukan.nn.conversion.units import fits, units
from allukan.nn.conversion.watch import Call, watch
from allukan.nn.spline import Spline

_NORMS = (nn.modules.batchnorm._NormBase, nn.LayerNorm)
KEPT = "it is to be kept"
Observed = tuple[list[Call], set[str], Any, list[str]]  # see _observe
Example = Tensor | tuple[Any, ...] | Mapping[str, Any]
Options = Spline | Mapping[str, Any] | None


@torch.inference_mode(False)  # the new parameters are to learn, wherever they are made
def convert(
    network: nn.Module, example: Example, spline: Options = None, keep: Collection[str] = (), *, take_norms: bool = True
) -> tuple[nn.Module, Conversion]:
    """A copy of the network whose convolutions and linear layers are KA layers, and the same function until it is trained.

    y = W act(x) + β is a KA layer with base ``act``, base weight 1 and a zero spline. So every layer takes over its weights
    and, as base, the activation in front of it, which becomes an identity; a layer with no activation in front of it, or with
    one that others read as well, takes the identity as base. A norm that only such a layer reads moves into it (``LAYER.norm``):
    the layer is then the unit normalise → φ → mix. The network's own code stays in charge; only modules are swapped.

    Args:
        network: any ``nn.Module``; it is not touched.
        example: an input it accepts, a tensor, a tuple of arguments or a mapping of keyword arguments, on its device. It runs
            in evaluation and in training mode, to see who reads whose output.
        spline: grid, sharing and the rest, or a mapping of what differs from ``Spline()``; a number of activations shrinks to
            the largest that divides a layer's outputs. Its base must be left alone, as each layer has that of the network.
        keep: names of modules that stay as they are, with all that is in them.
        take_norms: False leaves every norm where it is, with the names of its parameters.

    Returns:
        The KA network in the mode of the original, and what became of every layer and activation.

    Raises:
        ValueError: nothing can be converted, ``spline`` chooses a base, a name in ``keep`` is unknown, a layer is lazy, or the
            copy does not do what the network does.

    >>> network = nn.Sequential(nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Conv2d(8, 2, 3))
    >>> ka, conversion = convert(network, torch.zeros(1, 1, 16, 16))
    >>> print(conversion)
    2 KA layers: 1 with base identity, 1 with base relu
    1 activations absorbed:
      1: relu
    largest difference on the example: 0.0e+00 of the largest output
    """
    spline = Spline().updated(spline)
    if spline.base != Spline.base:
        raise ValueError(f"spline has base {spline.base!r}: leave it out, as every layer takes the activation of the network")
    _check_shapes(network)
    arguments, own = _arguments(example), own_paddings(network)
    network, wanted, (calls, reached, expected, notes) = _as_modules(network, arguments, keep, own)
    obstacles = _obstacles(network, calls, wanted, own)
    padded, joint = absorbed_paddings(network, calls, wanted, own)
    layers, absorbed, kept = _moving(network, calls, wanted)
    if not layers:
        raise _nothing(network, obstacles)
    emptied = {*absorbed, *padded.values()}
    taking = _units(network, calls, layers, emptied, wanted) if take_norms else {}
    converted = swap(copy.deepcopy(network), layers, emptied, taking, own | joint, spline)
    reached &= {*layers, *emptied, *taking.values()}
    return converted, Conversion(
        layers=layers,
        units=taking,
        padded=padded,
        absorbed=absorbed,
        kept=kept,
        behind_kept=_behind_kept(calls, layers),
        left=_left(network, layers, obstacles),
        notes=(*notes, *_frozen_slopes(network, absorbed)),
        deviation=check(converted, network, arguments, expected, reached, taking),
    )


def _moving(network: nn.Module, calls: list[Call], wanted: set[str]) -> tuple[dict[str, str], dict[str, str], dict[str, str]]:
    """The base of every layer, of every activation that moves, and why the others stay."""
    bases, kept = _bases(network, wanted)
    layers, stay = absorb(calls, bases)
    return layers, {n: base for n, base in bases.items() if n not in stay}, {**kept, **stay, **_functions(calls)}


def _nothing(network: nn.Module, obstacles: dict[str, str]) -> ValueError:
    reasons = "; ".join(f"{name}: {reason}" for name, reason in list(obstacles.items())[:3]) or "it has none"
    return ValueError(f"no convolution or linear layer of {type(network).__name__} can become a KA layer ({reasons})")


def _check_shapes(network: nn.Module) -> None:
    for name, module in network.named_modules():
        if any(is_lazy(parameter) for parameter in module.parameters(recurse=False)):
            kind = type(module).__name__
            raise ValueError(f"{kind} {name!r} does not know its shape yet: run the network on the example first")


def _arguments(example: Example) -> tuple[tuple, dict]:
    if isinstance(example, Mapping):
        return (), dict(example)
    return (example if isinstance(example, tuple) else (example,)), {}


def _as_modules(
    network: nn.Module, arguments: tuple[tuple, dict], keep: Collection[str], own: Paddings
) -> tuple[nn.Module, set[str], Observed]:
    """The network with modules for functions, names of those that are not to be kept, and what was seen.

    The output is that of the network as it was given.
    """
    observed, wanted = _observe(network, arguments, own), _wanted(network, keep)
    modular = with_modules(network, observed[0], wanted)
    if modular is network:
        return network, wanted, observed
    calls, reached, _, notes = _observe(modular, arguments, own)
    return modular, _wanted(modular, keep), (calls, reached, observed[2], notes)


def _observe(network: nn.Module, arguments: tuple[tuple, dict], own: Paddings) -> Observed:
    """Calls of both modes, names called in evaluation mode, the output of evaluation mode, and a note if training failed."""
    scratch, notes = copy.deepcopy(network).eval(), []
    padding = {scratch.get_submodule(name) for name in own}

    def role_of(module: nn.Module) -> str:
        return "layer" if module in padding else role(module)

    calls, output = watch(scratch, copy.deepcopy(arguments), role_of)
    reached = {call.name for call in calls}
    for module in scratch.modules():
        module.training = not isinstance(module, _NORMS)  # a batch norm may refuse a small example, and does not matter here
    try:
        with torch.random.fork_rng(devices=[]):
            calls = calls + watch(scratch, copy.deepcopy(arguments), role_of)[0]
    except (RuntimeError, ValueError, TypeError, AttributeError, KeyError, AssertionError) as error:
        problem = str(error).split("\n", 1)[0]
        notes.append(f"only evaluation mode was seen, as training mode does not run on the example ({problem})")
    return calls, reached, output, notes


def _wanted(network: nn.Module, keep: Collection[str]) -> set[str]:
    """Names of the modules that are not to be kept."""
    names, kept = {name for name, _ in network.named_modules()}, [keep] if isinstance(keep, str) else list(keep)
    for name in kept:
        if name not in names:
            raise ValueError(f"keep names {name!r}, which is no module of {type(network).__name__}")
    return {name for name in names if not any(name == other or name.startswith(f"{other}.") for other in kept)}


def _obstacles(network: nn.Module, calls: list[Call], wanted: set[str], own: Paddings) -> dict[str, str]:
    """Layers that stay, with the reason; their calls become ordinary readers."""
    obstacles = {name: why if name in wanted else KEPT for name, why in layers_of(network, own).items()}
    called = {call.name for call in calls if call.kind == "layer"}
    for call in calls:
        if call.kind == "layer" and not obstacles[call.name]:
            layer = network.get_submodule(call.name)
            if not call.dims:
                obstacles[call.name] = "its input is not its first argument"
            elif isinstance(layer, CONVOLUTIONS) and call.dims != len(layer.kernel_size) + 2:
                obstacles[call.name] = "it is called without a batch dimension"
    for call in calls:
        if call.kind == "layer" and obstacles[call.name]:
            call.kind, call.name = "other", f"the layer {call.name!r}"
    return {name: why or "the example does not reach it" for name, why in obstacles.items() if why or name not in called}


def _bases(network: nn.Module, wanted: set[str]) -> tuple[dict[str, str], dict[str, str]]:
    """Activation modules with a base, and those without one, with the reason."""
    activations = {name: module for name, module in network.named_modules() if role(module) == "activation"}
    found = {name: base_of(module) if name in wanted else ("", KEPT) for name, module in activations.items()}
    return {n: base for n, (base, _) in found.items() if base}, {n: why for n, (base, why) in found.items() if not base}


def _units(network: nn.Module, calls: list[Call], layers: dict[str, str], absorbed: set[str], wanted: set[str]) -> dict[str, str]:
    """The layers that take a norm along, with that norm."""
    dims = {call.name: max(c.dims for c in calls if c.name == call.name) for call in calls if call.kind == "layer"}
    found = units(calls, layers, {*absorbed, *(name for name, module in network.named_modules() if passes(module))}).items()
    return {
        layer: norm
        for layer, norm in found
        if norm in wanted and fits(network.get_submodule(norm), network.get_submodule(layer), dims[layer])
    }


def _functions(calls: list[Call]) -> dict[str, str]:
    names = [call.name for call in calls if call.kind == "activation" and call.name.startswith("the function ")]
    return dict.fromkeys(names, "a call in code that torch.fx cannot record")


def _behind_kept(calls: list[Call], layers: dict[str, str]) -> tuple[str, ...]:
    behind = {c.name for c in calls if c.kind == "layer" and c.inputs[0] and c.inputs[0].kind == "activation"}
    return tuple(name for name, base in layers.items() if base == "identity" and name in behind)


def _frozen_slopes(network: nn.Module, absorbed: dict[str, str]) -> list[str]:
    names = [name for name in absorbed if isinstance(network.get_submodule(name), nn.PReLU)]
    learned = "the learned slopes of these PReLUs are fixed now, the splines learn in their place: "
    return [learned + ", ".join(names)] if names else []


def _left(network: nn.Module, layers: dict[str, str], obstacles: dict[str, str]) -> dict[str, str]:
    left = {}
    for name, module in network.named_modules():
        parametrised = is_parametrized(module, "weight")
        has_weight = parametrised or any(parameter.ndim > 1 for parameter in module.parameters(recurse=False))
        if has_weight and name not in layers and not isinstance(module, (*_NORMS, ParametrizationList)):
            why = "it has a parametrisation of its weight, which a new layer would lose" if parametrised else ""
            left[name] = why or obstacles.get(name) or f"there is no KA layer for {type(module).__name__}"
    return left
