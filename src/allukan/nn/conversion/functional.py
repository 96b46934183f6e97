"""Activations that a network calls as functions, turned into modules, which can then move as any other."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Collection
from typing import Any

import torch
import torch.nn.functional as F
from torch import fx, nn

from allukan.nn.conversion.roles import has_hooks
from allukan.nn.conversion.watch import Call

_MODULES: dict[str, type[nn.Module]] = {  # by the name of the function; options come in the same order
    "relu": nn.ReLU,
    "relu6": nn.ReLU6,
    "leaky_relu": nn.LeakyReLU,
    "silu": nn.SiLU,
    "gelu": nn.GELU,
    "tanh": nn.Tanh,
    "elu": nn.ELU,
    "hardswish": nn.Hardswish,
    "hardtanh": nn.Hardtanh,
    "mish": nn.Mish,
    "softplus": nn.Softplus,
    "sigmoid": nn.Sigmoid,
}
_FUNCTIONS = {getattr(home, name): name for home in (F, torch) for name in _MODULES if hasattr(home, name)}
_FUNCTIONS |= {name: name for name in ("relu", "tanh", "sigmoid")}  # methods of a tensor


class _Shallow(fx.Tracer):
    """Records one module's own code; the modules that it calls stay calls."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return True


def with_modules(network: nn.Module, calls: Collection[Call], wanted: Collection[str]) -> nn.Module:
    """The network, or a copy in which torch.fx has put modules in the place of the functions that are activations.

    Only modules whose own code calls such a function are recorded, and only where the record is the same in training and in
    evaluation mode and holds no constant that the code made; all others stay as they are. The new modules are called
    ``OWNER.relu_0`` and so on.
    """
    places = sorted({call.place for call in calls if call.kind == "activation" and call.place is not None} & set(wanted))
    places = [place for place in places if _is_own_code(network.get_submodule(place))]
    graphs = {place: graph for place in places if (graph := _graph(network.get_submodule(place)))}
    if not graphs:
        return network
    changed = copy.deepcopy(network)
    for place, graph in graphs.items():
        _rewrite(changed.get_submodule(place), graph)
    return changed


def _is_own_code(module: nn.Module) -> bool:
    return not (type(module).__module__.startswith("torch.") or has_hooks(module))


def _graph(module: nn.Module) -> fx.Graph | None:
    """The record of the code, None where there is none that holds always."""
    if any(p.default is not p.empty for p in inspect.signature(module.forward).parameters.values()):
        return None  # whoever leaves it out may take another branch than the record
    scratch = copy.copy(module)  # constants become attributes of what is recorded
    for name, value in _attributes(module).items():
        if isinstance(value, list | dict | set) and not name.startswith("_"):
            setattr(scratch, name, copy.copy(value))  # what is appended to is not the user's
    held, sizes = _attributes(scratch), _sizes(scratch)
    known = {name for name, _ in (*module.named_parameters(), *module.named_buffers())}
    graphs = []
    for training in (True, False):
        scratch.training = training
        try:
            graphs.append(_Shallow().trace(scratch))
        except Exception:  # code that looks at values or shapes, or whatever else a proxy is not
            return None
    if _attributes(scratch).keys() - held.keys() or any(held[name] is not value for name, value in _attributes(scratch).items()):
        return None  # what forward keeps for others would stay as it was here
    if _sizes(scratch) != sizes:
        return None
    codes = {graph.python_code("self").src for graph in graphs}
    constants = any(node.op == "get_attr" and node.target not in known for node in graphs[0].nodes)
    replaceable = any(_kind(node) for node in graphs[0].nodes)
    return graphs[0] if len(codes) == 1 and replaceable and not constants else None


def _attributes(module: nn.Module) -> dict[str, Any]:
    """What a network keeps on itself beside its parts, constants of the record left out."""
    return {name: value for name, value in vars(module).items() if name != "training" and not name.startswith("_tensor_constant")}


def _sizes(module: nn.Module) -> dict[str, int]:
    return {name: len(value) for name, value in _attributes(module).items() if isinstance(value, list | dict | set)}


def _kind(node: fx.Node) -> str:
    """Name of the activation that a node calls with plain options, or ""."""
    name = _FUNCTIONS.get(node.target, "") if node.op in ("call_function", "call_method") else ""  # type: ignore[call-overload]
    options = (*node.args[1:], *(value for key, value in node.kwargs.items() if key != "input"))
    return "" if any(isinstance(value, fx.Node) for value in options) else name


def _rewrite(module: nn.Module, graph: fx.Graph) -> None:
    """Gives the module the recorded code with modules for functions; the rest of its class stays."""
    for node in list(graph.nodes):
        if name := _kind(node):
            options = {key: value for key, value in node.kwargs.items() if key != "input"}
            argument = node.args[0] if node.args else node.kwargs["input"]
            place = next(f"{name}_{n}" for n in range(len(graph.nodes)) if not hasattr(module, f"{name}_{n}"))
            module.add_module(place, _MODULES[name](*node.args[1:], **options).train(module.training))
            with graph.inserting_after(node):
                node.replace_all_uses_with(call := graph.call_module(place, (argument,)))
            call.args = (argument,)
            graph.erase_node(node)
    kind: Any = type(module)
    forward: Callable[..., Any] = type(fx.GraphModule(module, graph)).forward
    module.__class__ = type(kind.__name__, (kind,), {"forward": forward, "__module__": kind.__module__})
