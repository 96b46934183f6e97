"""Sets of options: frozen dataclasses whose values pydantic checks, each wrong one told in one sentence."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, replace
from functools import wraps
from inspect import cleandoc
from numbers import Integral, Real
from typing import TYPE_CHECKING, Annotated, Any, TypeVar, dataclass_transform

from annotated_types import Ge, Le
from pydantic import BeforeValidator, ConfigDict, ValidationError
from pydantic.dataclasses import dataclass as validated

from allukan.errors import UserError, full_stop, shown, suggestion
from allukan.options.words import Help, Must, OneOf, attributes, choices, hints, must_be

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

    T = TypeVar("T", bound=DataclassInstance)
C = TypeVar("C", bound=type)
LARGEST_COUNT = 65_536  # of channels, classes and the like: far above every use, far below what exhausts a machine
_CONFIG = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)


def _plain(value: Any) -> Any:
    """Numbers of numpy as Python's."""
    if isinstance(value, bool) or not isinstance(value, Real):
        return value
    return int(value) if isinstance(value, Integral) else value if isinstance(value, float) else float(value)


Whole = Annotated[int, BeforeValidator(_plain)]
Count = Annotated[Whole, Ge(1), Le(LARGEST_COUNT)]
Number = Annotated[float, BeforeValidator(_plain)]


@dataclass_transform(frozen_default=True)
def option_set(what: str, prefix: str = "", error: type[ValueError] = UserError) -> Callable[[C], C]:
    """Makes a class a frozen dataclass that checks its values: no bool for a number, no text for one, no unknown name.

    What is wrong raises ``error`` with one sentence, a name that does not exist ``TypeError`` unless that is ``UserError``.

    Args:
        what: what one of them is called, as "option of topology".
        prefix: goes before the name of one.
        error: what is raised.

    >>> @option_set("option of it", "it: ")
    ... class It:
    ...     count: Annotated[Count, Help("how many")] = 1
    >>> It(3), It.__doc__.strip()
    (It(count=3), 'Attributes:\\n    count: how many.')
    >>> It(True)
    Traceback (most recent call last):
    allukan.errors.UserError: it: count must be a whole number of at least 1 and at most 65536, got True.
    """

    def decorate(cls: C) -> C:
        made: Any = validated(cls, frozen=True, config=_CONFIG)
        check = made.__init__

        @wraps(check)
        def __init__(self: Any, *values: Any, **named: Any) -> None:
            try:
                check(self, *values, **named)
            except ValidationError as wrong:
                given = dict(zip(hints(made), values, strict=False)) | named
                raise _told(made, wrong, given, what, prefix, error) from None

        made.__init__ = __init__
        made.__doc__ = cleandoc(cls.__doc__ or "") + attributes(made)
        return made

    return decorate


def _told(options: type, wrong: ValidationError, given: Mapping[str, Any], what: str, prefix: str, error: type) -> Exception:
    """The first fault as an exception, unknown names before all others."""
    found = wrong.errors(include_url=False)
    first = min(found, key=lambda one: one["type"] != "unexpected_keyword_argument")
    user = error is UserError
    types = hints(options)
    place = first["loc"][0] if first["loc"] else ""
    name = dict(enumerate(types)).get(place, str(place)) if isinstance(place, int) else place  # values may come without a name
    if first["type"] == "unexpected_keyword_argument":
        sentence, error = f"unknown {what} {name!r}: {suggestion(name, types)}", error if user else TypeError
    elif name and (name not in given or name not in types):  # one that lacks, or too many without a name
        sentence, error = f"{what} {name!r} is missing" if name in types else first["msg"], error if user else TypeError
    elif isinstance(given.get(name), str) and (allowed := choices(types[name])):
        sentence = f"unknown {name} {shown(given[name])}: {suggestion(given[name], allowed)}"
    elif first["type"] == "value_error":
        sentence = str(first["ctx"]["error"])
    else:
        sentence = f"{prefix}{name} must be {must_be(types[name])}, got {shown(given[name])}"
    result: Exception = error(full_stop(sentence) if user else sentence)
    return result


def changed(options: T, given: Mapping[str, Any], what: str) -> T:
    """A set with some options changed; ``TypeError`` for what is no mapping, and as the class for what is in it."""
    if not isinstance(given, Mapping):
        raise TypeError(f"{what} must be a mapping of {', '.join(f.name for f in fields(options))}, got {shown(given)}")
    return replace(options, **{str(name): value for name, value in given.items()})


def check_names(given: Any, names: Sequence[str], what: str) -> None:
    """``UserError`` unless ``given`` is a mapping of some of ``names``; ``what`` they are goes into the sentence."""
    if not isinstance(given, Mapping):
        raise UserError(f"{what}s must be 'name: value' pairs, got {shown(given)}.")
    for key in given:
        if key not in names:
            raise UserError(f"unknown {what} {key!r}: {suggestion(key, names)}")


__all__ = ["Count", "Help", "Must", "Number", "OneOf", "Whole", "changed", "check_names", "option_set"]
