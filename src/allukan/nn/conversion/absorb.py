"""Which activations can move into the layers behind them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from allukan.nn.conversion.watch import Call

IDENTITY = "identity"
_MONOTONE = ("identity", "relu", "tanh", "leaky_relu", "relu6", "hardtanh", "elu", "softplus", "sigmoid")  # b(max x) = max b(x)


@dataclass(frozen=True)
class _Pending:
    """A value that still waits for its activation, as that has moved behind it."""

    base: str
    activations: frozenset[str]


def absorb(calls: list[Call], bases: dict[str, str]) -> tuple[dict[str, str], dict[str, str]]:
    """The base of every layer, and of the activations in ``bases`` those that have to stay, with the reason.

    An activation moves when every reader of its output is a layer that can take it as base, directly or behind a
    concatenation with values of the same activation, a change of shape or, if it is monotone, a maximum. The others stay,
    and their layers take the identity. We let all of them move and take back what does not fit until all fits.

    >>> act = Call("activation", "act", [None])
    >>> absorb([act, Call("layer", "conv", [act])], {"act": "relu"})
    ({'conv': 'relu'}, {})
    >>> absorb([act, Call("layer", "conv", [act]), Call("other", "the skip", [act])], {"act": "relu"})
    ({'conv': 'identity'}, {'act': 'its output goes to the skip'})
    """
    stay: dict[str, str] = {}
    while True:
        layers, refused = _move({name: base for name, base in bases.items() if name not in stay}, calls)
        if not refused:
            return layers, stay
        stay |= refused


def _move(bases: dict[str, str], calls: list[Call]) -> tuple[dict[str, str], dict[str, str]]:
    """One attempt with all of ``bases``: the layers' bases, and the activations that do not fit."""
    pending: dict[Call, _Pending] = {}
    read_by: dict[str, set[_Pending | None]] = defaultdict(set)
    refused: dict[str, str] = {}
    for call in calls:
        values = [pending.get(maker) if maker else None for maker in call.inputs]
        waiting = [value for value in values if value]
        if call.kind == "layer":
            read_by[call.name].add(values[0])
        elif call.kind in ("move", "pool") and _passes(call, values):
            pending[call] = _Pending(waiting[0].base, frozenset().union(*(value.activations for value in waiting)))
        elif waiting:
            _refuse(refused, waiting, _reason(call))
        if call.kind == "activation" and call.name in bases:
            pending[call] = _Pending(bases[call.name], frozenset({call.name}))
            if call.changed:
                _refuse(refused, [pending[call]], "its input is changed in place later")
    for name, values_read in read_by.items():
        if len({value.base if value else None for value in values_read}) > 1:
            _refuse(refused, values_read, f"the layer {name!r} also reads other inputs")
    moved = {name for values_read in read_by.values() for value in values_read if value for name in value.activations}
    refused |= {name: "no convertible layer reads it" for name in bases if name not in moved and name not in refused}
    first = {name: next(iter(values_read)) for name, values_read in read_by.items()}
    return {name: value.base if value else IDENTITY for name, value in first.items()}, refused


def _passes(call: Call, values: list[_Pending | None]) -> bool:
    bases = {value.base if value else "" for value in values}
    if len(bases) != 1 or "" in bases:
        return False
    return call.kind == "move" or bases.pop().partition(":")[0] in _MONOTONE


def _reason(call: Call) -> str:
    if call.kind == "move" and len(call.inputs) > 1:
        return f"its output is joined with other values by {call.name}"
    return f"its output goes to {call.title or call.name}"


def _refuse(refused: dict[str, str], values: Iterable[_Pending | None], reason: str) -> None:
    """Adds the reason for every activation of the values that has none: the first is the plainest."""
    for value in values:
        for name in value.activations if value else ():
            refused.setdefault(name, reason)
