"""Parameters of a command, made from a class of options: each is written once, there."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from allukan.options import DRAWN, default_of, help_of, kinds_of, parse_ignore

_ARGUMENTS = {"data": "Dataset folder; not needed with --resume."}  # by their place, not by a name
_PATHS = ("data", "out", "init", "cache")


def takes(options: type, *names: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """A command with a parameter for each of the options named, before its own; they reach it as ``**given``, None if not given.

    >>> from allukan.options import LabelRules
    >>> @takes(LabelRules, "foreground")
    ... def command(loud: bool = False, **given: Any) -> None: ...
    >>> list(inspect.signature(command).parameters)
    ['foreground', 'loud']
    """

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        own = [p for p in inspect.signature(command, eval_str=True).parameters.values() if p.kind is not p.VAR_KEYWORD]
        every = [*_parameters(options, names), *(p.replace(kind=p.KEYWORD_ONLY) for p in own)]
        command.__signature__ = inspect.Signature(every)  # type: ignore[attr-defined]
        command.__annotations__ = {p.name: p.annotation for p in every}
        return command

    return decorate


def _parameters(options: type, names: tuple[str, ...]) -> Iterator[inspect.Parameter]:
    for name in names:
        kind: Any = Path if name in _PATHS else _kind(options, name)
        if name in _ARGUMENTS:
            mark: Any = typer.Argument(help=_ARGUMENTS[name], show_default=False)
        else:
            flag = name.replace("_", "-")
            flags = [f"--{flag}/--no-{flag}"] if kind is bool else [f"--{flag}"]
            mark = typer.Option(*flags, help=_help(options, name), show_default=False)
        yield inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[kind | None, mark])


def _kind(options: type, name: str) -> type:
    """What the shell gives: a number where nothing else is possible, else text."""
    kinds = kinds_of(options, name)
    return kinds[0] if len(kinds) == 1 and kinds[0] in (bool, int, float) else str


def _help(options: type, name: str) -> str:
    text, default = help_of(options, name), default_of(options, name)
    default = {"true": "yes", "false": "no"}.get(default, default)
    return f"{text[0].upper()}{text[1:]}" + (f"  [{default}]" if default else "")


def as_options(given: Mapping[str, Any]) -> dict[str, Any]:
    """What stands on the command line, as options of a training; folders and files of others are found from anywhere."""
    found = {name: value for name, value in given.items() if value is not None}
    found |= {"ignore": parse_ignore(found["ignore"])} if "ignore" in found else {}
    found |= {"splits": Path(found["splits"])} if found.get("splits", DRAWN) != DRAWN else {}
    return {name: str(v if name == "out" else v.resolve()) if isinstance(v, Path) else v for name, v in found.items()}
