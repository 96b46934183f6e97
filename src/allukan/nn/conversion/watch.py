"""Which call of a network reads the output of which other: one run, watched from outside.

Not by symbolic tracing, which refuses networks whose code depends on the data: hooks see the modules, a
``TorchFunctionMode`` sees the functions between them, and tensors are told apart by identity.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from allukan.nn.conversion.roles import has_hooks

_METADATA = frozenset({"size", "dim", "ndimension", "numel", "nelement", "stride", "is_floating_point", "is_contiguous"})
_METADATA |= {"is_complex", "get_device", "__len__", "type", "element_size", "storage_offset"}
_MOVES = frozenset({"cat", "concat", "concatenate", "flatten", "unflatten", "reshape", "view", "permute", "transpose"})
_MOVES |= {"movedim", "swapaxes", "squeeze", "unsqueeze", "contiguous"}
_ACTIVATIONS = frozenset({"relu", "leaky_relu", "prelu", "rrelu", "gelu", "silu", "tanh", "elu", "selu", "celu", "relu6", "mish"})
_ACTIVATIONS |= {"sigmoid", "softplus", "hardswish", "hardtanh", "hardsigmoid", "logsigmoid", "relu_", "leaky_relu_", "tanh_"}
Role = Callable[[nn.Module], str]


@dataclass(eq=False)
class Call:
    """One call of a module or function.

    Attributes:
        kind: "activation", "layer", "norm", "pad" (zeros, mostly), "move" (carries values elsewhere and changes none), "pool" (a
            maximum) or "other".
        name: of the module, or what else it is.
        inputs: for every tensor it reads the activation, norm, pad, move or pool that made it, None for any other origin.
        dims: dimensions of the first argument, 0 where that is no tensor or goes by keyword.
        changed: whether somebody wrote into that tensor after the call.
        title: what the report calls it, where that is more than the name.
        place: of a function the module whose code calls it.
    """

    kind: str
    name: str
    inputs: list[Call | None]
    dims: int = 0
    changed: bool = False
    title: str = ""
    place: str | None = None


def watch(network: nn.Module, example: tuple[tuple, dict], role: Role) -> tuple[list[Call], Any]:
    """The calls of ``network(*args, **kwargs)`` in their order, with what it returned; without gradients.

    ``role`` tells what a module is: a kind of ``Call``, or "" for one that only calls others. The network's output is read by
    a last call of kind "other".
    """
    hooked = {module for module in network.modules() if has_hooks(module)}
    watcher = _Watcher({module: name for name, module in network.named_modules()}, role, hooked)
    hooks = [module.register_forward_pre_hook(watcher.enter, with_kwargs=True) for module in network.modules()]
    hooks += [module.register_forward_hook(watcher.leave, with_kwargs=True) for module in network.modules()]
    try:
        with torch.no_grad(), watcher:
            output = network(*example[0], **example[1])
    finally:
        for hook in hooks:
            hook.remove()
    watcher.calls.append(Call("other", "the network's output", watcher.makers_of(output)))
    kept = [value for module in network.modules() for name, value in vars(module).items() if not name.startswith("_")]
    if any(makers := watcher.makers_of(kept)):
        watcher.calls.append(Call("other", "what the network keeps on itself", makers))
    for call, (tensor, version) in watcher.versions.items():
        call.changed = tensor._version != version
    return watcher.calls, output


def tensors_in(value: Any) -> Iterator[Tensor]:
    """Every tensor in nested lists, tuples, mappings and dataclasses."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping):
        yield from tensors_in(list(value.values()))
    elif isinstance(value, list | tuple):
        for item in value:
            yield from tensors_in(item)
    elif is_dataclass(value) and not isinstance(value, type):
        yield from tensors_in([getattr(value, field.name) for field in fields(value)])


class _Watcher(TorchFunctionMode):
    def __init__(self, names: dict[nn.Module, str], role: Role, hooked: set[nn.Module]) -> None:
        super().__init__()
        self.names, self.role, self.hooked = names, role, hooked
        self.calls: list[Call] = []
        self.makers: dict[int, tuple[Call, Tensor]] = {}  # by identity; the tensor is kept, so that no other takes its place
        self.versions: dict[Call, tuple[Tensor, int]] = {}
        self.open: list[Call | None] = []  # the modules that are running, innermost last
        self.path: list[str] = []

    def makers_of(self, value: Any) -> list[Call | None]:
        return [self.makers[id(t)][0] if id(t) in self.makers else None for t in tensors_in(value)]

    def enter(self, module: nn.Module, args: tuple, kwargs: dict) -> None:
        kind = "" if self._inside() else self.role(module)
        call = None
        if kind:
            name, title = self.names[module], f"{type(module).__name__} {self.names[module]!r}"
            call = Call(kind, title if kind == "other" else name, self.makers_of((args, kwargs)))
            call.title = title if kind in ("norm", "pad") else ""
            call.dims = args[0].ndim if args and isinstance(args[0], Tensor) else 0
            self.calls.append(call)
        self.open.append(call)
        self.path.append(self.names[module])

    def leave(self, module: nn.Module, args: tuple, kwargs: dict, output: Any) -> None:
        self.path.pop()
        call = self.open.pop()
        if call is not None and call.kind in ("activation", "norm", "pad", "move", "pool"):
            self._made(call, output)
            if call.kind in ("activation", "norm", "pad"):
                tensor = next(tensors_in((args, kwargs)))
                self.versions[call] = tensor, tensor._version
        if module in self.hooked and not self._inside():
            hooks = f"hooks of {self.names[module]!r}" if self.names[module] else "hooks of the network"
            self.calls.append(Call("other", hooks, self.makers_of((args, kwargs, output))))

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs, name = kwargs or {}, getattr(func, "__name__", str(func))
        if self._inside() or name in _METADATA:
            return func(*args, **kwargs)
        inputs = self.makers_of((args, kwargs))
        output = func(*args, **kwargs)
        is_attribute = name == "__get__" and not isinstance(output, Tensor)
        if is_attribute or not (any(inputs) or name in _ACTIVATIONS):
            return output
        kind = "activation" if name in _ACTIVATIONS else "move" if _moves(name, args, kwargs, output) else "other"
        call = Call(kind, f"the function {name} in {self._place()}", inputs, place=self.path[-1] if self.path else None)
        self.calls.append(call)
        if kind != "other":
            self._made(call, output)
        return output

    def _inside(self) -> bool:
        """Whether a module runs whose own functions are no matter."""
        return any(call is not None and call.kind != "other" for call in self.open)

    def _place(self) -> str:
        return repr(self.path[-1]) if self.path and self.path[-1] else "the network"

    def _made(self, call: Call, output: Any) -> None:
        self.makers.update({id(t): (call, t) for t in tensors_in(output)})


def _moves(name: str, args: tuple, kwargs: dict, output: Any) -> bool:
    if name not in _MOVES or "out" in kwargs or not isinstance(output, Tensor):
        return False
    return all(t.dtype == output.dtype for t in tensors_in((args, kwargs)))  # view(dtype) reads the bits
