"""What an option is, in words: for sentences about wrong values, for ``--help`` and for the documentation."""

from __future__ import annotations

from dataclasses import MISSING, Field, dataclass, fields
from types import NoneType, UnionType
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

from annotated_types import Ge, Gt, Le, Lt
from pydantic import GetCoreSchemaHandler
from pydantic_core.core_schema import CoreSchema, no_info_after_validator_function

_KINDS: dict[Any, str] = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}
_BOUNDS = ((Ge, "ge", "of at least"), (Gt, "gt", "above"), (Le, "le", "at most"), (Lt, "lt", "below"))


@dataclass(frozen=True)
class Help:
    """Marks an option with what it does and, where its default is no plain value, with what that is."""

    text: str
    default: str = ""


class OneOf:
    """Marks an option with the texts among which it chooses."""

    def __init__(self, *names: str) -> None:
        self.names = names

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return no_info_after_validator_function(self._check, handler(source))

    def _check(self, value: str) -> str:
        if value not in self.names:
            raise ValueError(f"{value!r} is none of {', '.join(self.names)}")
        return value


@dataclass(frozen=True)
class Must:
    """Marks an option with what its values must be, where its type does not say it."""

    words: str


def hints(options: type) -> dict[str, Any]:
    """The type of every option of a class, with its marks."""
    return get_type_hints(options, include_extras=True)


def parts(hint: Any) -> tuple[list[Any], list[Any]]:
    """The plain types within a type, None left out, and all marks on them.

    >>> parts(Annotated[float, Ge(0)] | None)
    ([<class 'float'>], [Ge(ge=0)])
    """
    if get_origin(hint) is Annotated:
        inner, *marks = get_args(hint)
        kinds, further = parts(inner)
        return kinds, further + marks
    if get_origin(hint) in (Union, UnionType):
        found = [parts(one) for one in get_args(hint) if one is not NoneType]
        return [kind for kinds, _ in found for kind in kinds], [mark for _, marks in found for mark in marks]
    return [hint], []


def choices(hint: Any) -> tuple[str, ...]:
    """The texts among which an option chooses, none where it is open.

    >>> choices(Annotated[str, OneOf("a", "b")] | None)
    ('a', 'b')
    """
    return next((mark.names for mark in parts(hint)[1] if isinstance(mark, OneOf)), ())


def must_be(hint: Any) -> str:
    """What the values of an option must be.

    >>> must_be(Annotated[int, Ge(1), Le(9)]), must_be(Annotated[str, OneOf("a", "b")])
    ('a whole number of at least 1 and at most 9', 'one of a, b')
    """
    kinds, marks = parts(hint)
    for mark in marks:
        if isinstance(mark, Must):
            return mark.words
    if choices(hint):
        return f"one of {', '.join(choices(hint))}"
    bounds = [f"{words} {getattr(mark, key)}" for kind, key, words in _BOUNDS for mark in marks if isinstance(mark, kind)]
    return " ".join([" or ".join(_KINDS.get(kind, "something else") for kind in kinds), " and ".join(bounds)]).rstrip()


def help_of(options: type, name: str) -> str:
    """What an option does."""
    mark = _help(hints(options)[name])
    return mark.text if mark else ""


def kinds_of(options: type, name: str) -> list[Any]:
    """The plain types that an option may have, None left out."""
    return parts(hints(options)[name])[0]


def default_of(options: type, name: str) -> str:
    """What holds where the option is not given; empty for one that must be."""
    mark = _help(hints(options)[name])
    return (mark.default if mark else "") or _text(next(field for field in fields(options) if field.name == name))


def attributes(options: type) -> str:
    """The section of a docstring that lists all options."""
    lines = [f"    {name}: {help_of(options, name)}." for name in hints(options) if help_of(options, name)]
    return "\n".join(["", "", "Attributes:", *lines]) if lines else ""


def _help(hint: Any) -> Help | None:
    return next((mark for mark in parts(hint)[1] if isinstance(mark, Help)), None)


def _text(field: Field[Any]) -> str:
    if field.default is MISSING:
        return ""
    if isinstance(field.default, bool):
        return "true" if field.default else "false"
    return f"{field.default:g}" if isinstance(field.default, float) else str(field.default)
