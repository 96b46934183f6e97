"""Networks that are not ours, named as ``package.module:function``: importing, calling and looking at what came back."""

from __future__ import annotations

import inspect
import os
import re
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

from torch import nn

from allukan.errors import UserError, shown, suggestion

_NAME = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*")
_SHAPE = ("in_channels", "out_channels", "spatial_dims")


def is_foreign(model: str) -> bool:
    """Whether the model is somebody's code, to be imported.

    >>> is_foreign("package.module:function"), is_foreign("unet")
    (True, False)
    """
    return ":" in str(model)


def check_name(model: str) -> None:
    """``UserError`` unless it reads ``package.module:function``; nothing is imported."""
    if not _NAME.fullmatch(model):
        raise UserError(f"model {shown(model)} is not usable: write package.module:function, as in networks:small_unet.")


def check_trust(model: str, who: str, trust: bool) -> None:
    """``UserError`` that says what would be imported, unless the model is ours or trusted; ``who``, as "F is a model of"."""
    if is_foreign(model) and not trust:
        module, _, function = model.partition(":")
        raise UserError(
            f"{who} {model!r}, so using it would import the module {module} and call its {function}: "
            "add --trust (in Python trust=True) if you trust that code."
        )


def build_foreign(model: str, *, in_channels: int, out_channels: int, spatial_dims: int, **options: Any) -> nn.Module:
    """What the function returns for these channels, dimensions and options.

    Raises ``UserError`` for what cannot be imported, for a function that fails, and where it returns no module; ``TypeError``
    for options that it does not take.
    """
    function = _found(model)
    shape = {"in_channels": in_channels, "out_channels": out_channels, "spatial_dims": spatial_dims}
    _check_arguments(model, function, {**shape, **options})
    try:
        with _current_folder():
            network = function(**shape, **options)
    except Exception as error:
        raise UserError(f"{model} fails when it is called: {_told(error)}.") from error
    if not isinstance(network, nn.Module):
        raise UserError(f"{model} returned {_article(network)}, and a network is a torch.nn.Module: return one.")
    return network


def foreign_options(model: str) -> tuple[str, ...]:
    """The named options of the function, as its signature has them."""
    parameters = _parameters(_found(model))
    return tuple(
        name for name, p in parameters.items() if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY) and name not in _SHAPE
    )


def _found(model: str) -> Callable[..., Any]:
    check_name(model)
    name, _, attribute = model.partition(":")
    try:
        with _current_folder():
            module = import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise UserError(f"{model} cannot be imported: {name} needs the package {error.name}, install it.") from error
        raise UserError(
            f"{model} cannot be imported: there is no module {error.name}; start in the folder that holds it, or "
            "install its package."
        ) from None
    except Exception as error:
        raise UserError(f"{model} cannot be imported: {_told(error)}.") from error
    if not hasattr(module, attribute):
        own = [key for key, value in vars(module).items() if callable(value) and not key.startswith("_")]
        raise UserError(f"{name} has no {attribute!r}: {suggestion(attribute, own) if own else 'it has no function at all.'}")
    function = getattr(module, attribute)
    if not callable(function):
        raise UserError(f"{model} is {_article(function)}: name a function or a class that makes a network.")
    return function  # type: ignore[no-any-return]


def _check_arguments(model: str, function: Callable[..., Any], given: dict[str, Any]) -> None:
    parameters = _parameters(function)
    if any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        return
    for name in given:
        if name not in parameters:
            known = [option for option in parameters if option not in _SHAPE]
            if name in _SHAPE:
                raise UserError(f"{model} does not take {name}: let it take {', '.join(_SHAPE)} and its options by name.")
            raise UserError(f"{model} has no option {shown(name)}: {suggestion(name, known) if known else 'it takes none.'}")


def _parameters(function: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    """Without what it cannot be asked for: of functions in C, anything goes."""
    try:
        return dict(inspect.signature(function).parameters)
    except ValueError:
        return {"options": inspect.Parameter("options", inspect.Parameter.VAR_KEYWORD)}


@contextmanager
def _current_folder() -> Iterator[None]:
    """The current folder first on the path, where ``python -m`` has it and the script ``allukan`` has not."""
    here = os.getcwd()
    sys.path.insert(0, here)
    try:
        yield
    finally:
        if here in sys.path:
            sys.path.remove(here)


def _told(error: BaseException) -> str:
    """The error in a clause, with the line that raised it."""
    place = traceback.extract_tb(error.__traceback__)[-1]
    text = " ".join(str(error).split()).rstrip(".")
    return f"{type(error).__name__}{f': {text}' if text else ''} ({place.filename}, line {place.lineno})"


def _article(value: object) -> str:
    name = type(value).__name__
    return "None" if value is None else f"{'an' if name[0].lower() in 'aeiou' else 'a'} {name}"
