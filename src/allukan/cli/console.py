"""Progress and messages on the terminal: text is shown as it is, brackets in names are no markup."""

from __future__ import annotations

import codecs
import io
import logging
import sys
import time
import unicodedata
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from allukan.errors import UserError
from allukan.files import check_replaceable, readable
from allukan.options.amounts import time_text

TRUST = "Import the code that a model of package.module:function names."
_UsageError: Any = typer.BadParameter.__mro__[1]  # Typer does not export it, and moved it between its versions
_WATCHED, _WORTH_TELLING = 3.0, 10.0  # seconds: of work before an estimate, and of what is left
_ASCII = str.maketrans({"…": "...", "–": "-", "−": "-", "×": "x", "→": "->", "±": "+-", "²": "2", "·": "*", "•": "*"})


def _console(**options: Any) -> Console:
    return Console(highlight=False, markup=False, emoji=False, **options)


console = _console()


def make_streams_safe() -> None:
    """What stdout and stderr cannot encode is spelled out instead of ending the program: a pipe on Windows, a bare C locale."""
    codecs.register_error("allukan", _spelled)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="allukan")


def _spelled(error: UnicodeError) -> tuple[str | bytes, int]:
    assert isinstance(error, UnicodeEncodeError)
    text = readable(error.object[error.start : error.end])
    if error.encoding == "utf-8":
        return text.encode("utf-8"), error.end
    return text.translate(_ASCII).encode("ascii", "backslashreplace").decode("ascii"), error.end


def one_line(text: str) -> str:
    """With control characters, which names of files may hold, spelled out.

    >>> print(one_line("a\\nb [red]"))
    a\\nb [red]
    """
    return "".join(c.encode("unicode_escape").decode() if unicodedata.category(c) == "Cc" else c for c in text)


class _Lines(logging.Handler):
    """Each message in a line on stderr, as it is."""

    def emit(self, record: logging.LogRecord) -> None:
        complain(self.format(record))


def show_log() -> None:
    """Messages of the package go to stderr, one line each."""
    log = logging.getLogger("allukan")
    if not log.handlers:
        log.addHandler(_Lines())
    log.setLevel(logging.INFO)


def say(text: str, mark: str = "", colour: str = "") -> None:
    """A line on stdout, not wrapped, after a coloured ``mark``."""
    console.print(Text(one_line(text)) if not mark else Text.assemble((mark, colour), "  ", one_line(text)), soft_wrap=True)


def complain(text: str) -> None:
    """A line on stderr, as it is."""
    print(one_line(text), file=sys.stderr)


def run(program: Callable[[], Any], name: str) -> None:
    """Run a command line that raises its errors; bad input ends in one sentence on stderr and exit code 2, Ctrl-C in code 130."""
    make_streams_safe()
    try:
        code = program()
    except UserError as error:
        _end(f"{name}: {error}", 2)
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        _end(f"{name}: {where}{error.strerror or error}.", 2)
    except KeyboardInterrupt:
        _end(f"{name}: interrupted.", 130)
    except _UsageError as error:
        if not error.format_message():  # nothing was given, and the help was shown
            sys.exit(2)
        _end(f"{name}: {_usage(error)}", 2)
    else:
        sys.exit(code)  # that of typer.Exit; 0 without one


def _usage(error: Any) -> str:
    """What is wrong with the command line, in the style of our own sentences.

    >>> _usage(typer.BadParameter("'x' is no number."))
    "invalid value: 'x' is no number."
    """
    text = error.format_message().replace(". Did you mean", ": did you mean").rstrip(".")
    text = text[:1].lower() + text[1:].replace(": Input should", ": the input should")
    if error.ctx is None:
        return f"{text}."
    return f"{text}{' See' if text.endswith('?') else '; see'} {error.ctx.command_path} --help."


def _end(sentence: str, code: int) -> None:
    complain(sentence)
    sys.exit(code)


def check_page(out: Path, name: str) -> None:
    """Raises ``UserError`` where an HTML file cannot take the place of ``out``; ``name`` is one for a folder."""
    if out.is_dir():
        raise UserError(f"{out} is a folder: give --out a file name, as {out / name}.")
    check_replaceable(out, "<!doctype html>")


@contextmanager
def progress_bar(what: str) -> Iterator[Progress]:
    """A bar on stderr that disappears when done; steps may take minutes, and the time left is still told."""
    columns = (TextColumn(what, markup=False), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    place = _console(stderr=True)
    with Progress(*columns, console=place, transient=True, speed_estimate_period=600, disable=not place.is_terminal) as bar:
        yield bar


class TimeLeft:
    """Says once how long the rest takes, by what was done since its first call: before that there is loading and compiling."""

    def __init__(self) -> None:
        self._started, self._before, self._told = 0.0, 0.0, False

    def __call__(self, done: float, total: float) -> None:
        """``done`` of ``total`` now."""
        now = time.monotonic()
        if not self._started:
            self._started, self._before = now, done
        elif not self._told and now - self._started >= _WATCHED and done > self._before:
            self._told = True
            left = (total - done) * (now - self._started) / (done - self._before)
            if left >= _WORTH_TELLING:
                complain(f"about {time_text(left)} left")


@contextmanager
def counting(what: str) -> Iterator[Callable[[float, int], None]]:
    """What takes "so much of so much is done": shown as a bar on a terminal, elsewhere as one line about the time left."""
    with progress_bar(what) as bar:
        task, left = bar.add_task("", total=None), TimeLeft()

        def show(done: float, total: int) -> None:
            bar.update(task, completed=done, total=total)
            if bar.disable:
                left(done, total)

        yield show


def show_wide(table: Table) -> None:
    """A table whose numbers stay whole where the terminal is narrower, or a pipe."""
    _console(width=max(console.width, 160)).print(table)


def show_summary(summary: dict[str, Any]) -> None:
    """A table of means and 95 % intervals, overall and a class, and the figures of the ukan protocol."""
    from allukan.report import DISTANCES, HEADINGS

    overall, unit = summary["overall"], summary["distance_unit"]
    headings = [f"{text} ({unit})" if key in DISTANCES else text for key, text in HEADINGS.items()]
    table = Table(title=f"{summary['model']}, {summary['subset']}: {overall['cases']} masks, mean (95 % interval)")
    for column in ("class", *headings, "outcome"):
        table.add_column(column, overflow="fold")
    classes = summary["classes"].items() if len(summary["classes"]) > 1 else ()
    for name, figures in [("all", overall), *classes]:  # a class may be called "all"
        scores = [_score(figures[key], 1 if key in DISTANCES else 3) for key in HEADINGS]
        outcome = ", ".join(f"{count} {status.replace('_', ' ')}" for status, count in figures["status"].items())
        table.add_row(name, *scores, outcome)
    console.print(table)
    for name, value in summary.get("ukan", {}).items():
        say(f"ukan protocol, {name.replace('_', ' ')}: {value:.4f}")


def _score(figure: dict[str, float], digits: int) -> str:
    return f"{figure['mean']:.{digits}f}\n{figure['low']:.{digits}f} … {figure['high']:.{digits}f}"
