"""Layers for tools that read the Python of a model instead of running it: one node, or one clear sentence."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, NoReturn, TypeVar

from torch import Tensor, nn
from torch.fx import Proxy

from allukan.errors import UserError

M = TypeVar("M", bound=nn.Module)
R = TypeVar("R")


class Opaque(nn.Module):
    """A module whose Python ``torch.jit.script`` cannot compile, and says so; ``torch.jit.trace`` can follow it."""

    def __prepare_scriptable__(self) -> NoReturn:
        raise UserError(
            f"torch.jit.script cannot compile {type(self).__name__}: use torch.jit.trace(model, example) or "
            "torch.export.export(model, (example,))"
        )


def one_node(forward: Callable[[M, Tensor], R]) -> Callable[[M, Tensor], R]:
    """For ``torch.fx.symbolic_trace`` the module is one node of the graph, as torch's own layers are.

    >>> from allukan.nn import KALinear
    >>> from torch.fx import symbolic_trace
    >>> [node.op for node in symbolic_trace(nn.Sequential(KALinear(2, 3))).graph.nodes]
    ['placeholder', 'call_module', 'output']
    """

    @wraps(forward)
    def wrapped(self: M, x: Tensor) -> R:
        return _node(self, x) if isinstance(x, Proxy) else forward(self, x)

    return wrapped


def _node(module: nn.Module, x: Any) -> Any:
    if x.tracer.root is module:
        raise UserError(
            f"torch.fx.symbolic_trace takes {type(module).__name__} as one node of a model and does not look into it: "
            "trace the model around it, or use torch.export.export"
        )
    return x.tracer.create_proxy("call_module", x.tracer.path_of_module(module), (x,), {})
