"""A benchmark as a program: options made from a function and its dataclasses, table on the terminal, result in files."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import typer
from typer import Option

from allukan.cli.console import run, say
from allukan.provenance import environment
from benchmarks.pages import check_figure, check_page, fill_block
from benchmarks.report import Result, Row, check_out, write_json
from benchmarks.settings import Settings

EVERY_SETTING = frozenset(setting.name for setting in fields(Settings))


def names(text: str | Iterable[str]) -> list[str]:
    """What stands between the commas.

    >>> names("ka, stacked")
    ['ka', 'stacked']
    """
    return [part.strip() for part in text.split(",") if part.strip()] if isinstance(text, str) else list(text)


def listed(help: str) -> Any:
    """The option of a list with commas."""
    return Option(parser=names, metavar="A,B,…", help=help)


Peers = Annotated[Path | None, Option(help="Folder of clones of efficient-kan, fast-kan, torch-conv-kan, pykan, inkan, U-KAN")]
Variants = Annotated[
    Iterable[str] | None,
    listed("Of ours, as ka,ka-free,ka-keep,ka-input,ka-4,ka-output,edge,stacked,conv-checkpoint,conv-recompute  [all]"),
]
Out = Annotated[Path | None, Option(help="JSON file for the figures  [print only]")]
Figure = Annotated[Path | None, Option(help="PNG or SVG of the figures  [none]")]


@dataclass(frozen=True)
class Program:
    """The command line of a benchmark.

    Attributes:
        benchmark: its name in the result.
        measure: the benchmark itself. A parameter that is a dataclass becomes an option a field; the docstring is the help.
        defaults: of options, where they differ from those of ``measure`` and its dataclasses.
        without: settings that are no options here; their defaults hold.
        block: of the page that ``--page`` renews; None where there is no such page.
        draw: draws the ``--figure`` from rows and origin; None where there is none.
    """

    benchmark: str
    measure: Callable[..., Result]
    defaults: Mapping[str, Any] = field(default_factory=dict)
    without: frozenset[str] = frozenset()
    block: str | None = None
    draw: Callable[[Path, list[Row], Row], None] | None = None

    def __call__(self) -> None:
        """Read the command line, measure, show and write; bad input ends in one sentence and exit code 2."""
        app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode="markdown")
        app.command(help=self.measure.__doc__)(self._command())
        run(app, "benchmarks")

    def _command(self) -> Callable[..., None]:
        """What typer makes the command line from: every option by itself."""

        def command(**given: Any) -> None:
            out, figure, page = (given.pop(name, None) for name in ("out", "figure", "page"))
            self._run(given, out, figure, page)

        parameters = [*self._parameters(), *self._files()]
        command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        command.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
        return command

    def _parameters(self) -> list[inspect.Parameter]:
        """Those of ``measure`` itself first, then those of its dataclasses, the settings last."""
        own, spread = [], []
        for parameter in self._signature().values():
            if is_dataclass(parameter.annotation):
                spread.append([p for p in _fields(parameter.annotation) if p.name not in self.without])
            else:
                own.append(parameter)
        found = [*own, *(parameter for group in reversed(spread) for parameter in group)]
        return [p.replace(default=self.defaults.get(p.name, p.default), kind=p.KEYWORD_ONLY) for p in found]

    def _signature(self) -> dict[str, inspect.Parameter]:
        hints = get_type_hints(self.measure, include_extras=True)
        return {p.name: p.replace(annotation=hints[p.name]) for p in inspect.signature(self.measure).parameters.values()}

    def _files(self) -> list[inspect.Parameter]:
        page = Annotated[Path | None, Option(help=f"Markdown page whose <!-- {self.block} --> block gets the table  [none]")]
        options = {"out": Out} | ({"figure": Figure} if self.draw else {}) | ({"page": page} if self.block else {})
        return [inspect.Parameter(n, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=a) for n, a in options.items()]

    def _run(self, given: dict[str, Any], out: Path | None, figure: Path | None, page: Path | None) -> None:
        check_out(out)
        check_figure(figure)
        check_page(page, self.block or "")
        arguments, settings = self._arguments(given)
        result = self.measure(**arguments)
        how = {name: getattr(settings, name) for name in ("precision", "compile") if name in given}
        with settings.running():
            where = environment(settings.place) | how | result.about
        text = result.text(where)
        print(text)
        if out:
            write_json(out, self.benchmark, result, where)
            say(f"Written: {out}")
        if figure and self.draw:
            self.draw(figure, result.rows, where)
        if page and self.block:
            fill_block(page, self.block, text)

    def _arguments(self, given: Mapping[str, Any]) -> tuple[dict[str, Any], Settings]:
        """What ``measure`` is called with, and the settings among it (of a benchmark without any: the CPU)."""
        given, arguments = {**self.defaults, **given}, dict[str, Any]()
        for name, parameter in self._signature().items():
            carrier = parameter.annotation if is_dataclass(parameter.annotation) else None
            own = {p.name: given[p.name] for p in _fields(carrier) if p.name in given} if carrier else {}
            arguments[name] = parameter.annotation(**own) if carrier else given[name]
        return arguments, arguments.get("settings") or Settings("cpu")


def _fields(carrier: Any) -> list[inspect.Parameter]:
    hints = get_type_hints(carrier, include_extras=True)
    kind = inspect.Parameter.KEYWORD_ONLY
    return [inspect.Parameter(f.name, kind, default=f.default, annotation=hints[f.name]) for f in fields(carrier)]
