"""A training that starts from the weights of a model folder instead of random ones."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import replace

import torch
from monai.networks.layers import DropPath
from torch import Tensor, nn

from allukan.errors import UserError
from allukan.models import ModelCard, is_foreign, load_card, load_model

_log = logging.getLogger("allukan")
_NAMED = 3  # tensors that a sentence lists


def take_weights(network: nn.Module, card: ModelCard, folder: str, heads: str) -> None:
    """Give ``network``, built from ``card``, the weights and statistics of the model in ``folder``, and say which stay new.

    With ``heads`` "new" the layers whose shape depends on the number of classes start anew, and where the number of channels
    is another one those that depend on it; everything else must be there in the same shape, and compute the same.

    Raises:
        UserError: the folder is no model, or it is a model of something else; tensors that do not fit are named.
    """
    given, theirs = load_model(folder, trust=_is_same_code(card.model, folder))
    fresh = _depending(card, theirs, classes=heads == "new", channels=heads == "new")
    _check_meaning(card, theirs, folder, heads)
    state = network.state_dict()
    have = {name: tensor for name, tensor in given.state_dict().items() if not _within(name, fresh)}
    want = {name: tensor for name, tensor in state.items() if not _within(name, fresh)}
    _check_shapes(have, want, folder)
    _check_functions(given, network, fresh, folder)
    network.load_state_dict(state | have)
    new = [name for name in state if name not in have]
    _log.info(f"{len(have)} tensors start as in {folder}, {f'new are {_listed(new)}' if new else 'none is new'}.")


def _is_same_code(model: str, folder: str) -> bool:
    """Whether the folder names the foreign code that this training runs anyway; other code is not imported."""
    theirs = load_card(folder).model
    if is_foreign(theirs) and theirs != model:
        raise UserError(f"the weights of {folder} are of {theirs!r}, and this training is of {model!r}: give it the same model.")
    return theirs == model


def _depending(card: ModelCard, theirs: ModelCard, classes: bool, channels: bool) -> set[str]:
    """Names of the modules with a tensor whose shape depends on the number of classes, or is another one with their channels."""
    others = [replace(card, classes=(*card.classes, ""))] * classes + [replace(card, in_channels=theirs.in_channels)] * channels
    mine, found = _shapes(card), set()
    for shapes in map(_shapes, others):
        found |= {name.rpartition(".")[0] for name in mine | shapes if mine.get(name) != shapes.get(name)}
    return found


def _shapes(card: ModelCard) -> dict[str, torch.Size]:
    return {name: tensor.shape for name, tensor in card.outline().state_dict().items()}


def _within(name: str, modules: set[str]) -> bool:
    return name.rpartition(".")[0] in modules


def _check_meaning(card: ModelCard, theirs: ModelCard, folder: str, heads: str) -> None:
    """The same number of logits may still mean something else."""
    if heads == "new":
        return
    if (card.target, len(card.classes)) != (theirs.target, len(theirs.classes)):
        raise UserError(
            f"{folder} was trained for {_meaning(theirs)} and this training is for {_meaning(card)}: add --init-heads new to "
            "replace its heads."
        )
    if card.classes != theirs.classes:
        _log.warning(f"the heads of {folder} are of {', '.join(theirs.classes)}, and are taken for {', '.join(card.classes)}.")


def _meaning(card: ModelCard) -> str:
    return f"{len(card.classes)} {card.target} {'class' if len(card.classes) == 1 else 'classes'}"


def _check_shapes(have: dict[str, Tensor], want: dict[str, Tensor], folder: str) -> None:
    odd = [name for name in want | have if name not in have or name not in want or have[name].shape != want[name].shape]
    if odd:
        told = (f"{name} is {_shape(have, name)} there and {_shape(want, name)} here" for name in odd[:_NAMED])
        more = f", and {len(odd) - _NAMED} more differ" if len(odd) > _NAMED else ""
        raise UserError(
            f"the weights of {folder} do not fit this network: {', '.join(told)}{more}; give it the same model and options, or "
            "--init-heads new where only the classes or the channels are others."
        )


def _shape(state: dict[str, Tensor], name: str) -> str:
    return "x".join(map(str, state[name].shape)) or "a number" if name in state else "missing"


def _check_functions(given: nn.Module, network: nn.Module, fresh: set[str], folder: str) -> None:
    """The same shapes may still be used otherwise: another base activation, grid or norm."""
    theirs, ours = ({name: part for name, part in one.named_modules() if name not in fresh} for one in (given, network))
    for name, module in (theirs | ours).items():
        both = name in theirs and name in ours
        if isinstance(module, DropPath | nn.Identity) if both else not isinstance(module, nn.Identity):
            continue  # nothing to start from; or compared by its tensors, and a way without any is that of ``full_depth`` 0
        a, b = (_function(one.get(name)) for one in (theirs, ours))
        if a != b:
            raise UserError(f"the weights of {folder} mean something else in this network: {name} is {a} there and {b} here.")


def _function(module: nn.Module | None) -> str:
    return f"{type(module).__name__}({module.extra_repr()})" if module is not None else "missing"


def _listed(names: Iterable[str]) -> str:
    *first, last = names
    return f"{', '.join(first)} and {last}" if first else last
