"""``allukan doctor``."""

from __future__ import annotations

import json
import platform
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from allukan._version import __version__
from allukan.cli.console import complain, console, say

if TYPE_CHECKING:
    from allukan.doctor.examination import Examination
    from allukan.doctor.packages import Package
    from allukan.doctor.selftest import Check


def doctor(as_json: Annotated[bool, typer.Option("--json", help="Print everything as JSON.")] = False) -> None:
    """Say what is installed, what computes here and how fast it can, and test that it computes right.

    Takes a few seconds, once some ten more to compile. Exit code 1 when a needed package is missing or the self-test fails.
    """
    from allukan.doctor.packages import packages
    from allukan.provenance import commit

    about = {"allukan": __version__, "python": platform.python_version(), "commit": commit()}
    found, problem, examined, checks = packages(), "", None, list["Check"]()
    try:
        examined, checks = _examined(quiet=as_json)
    except ImportError as error:
        problem = f"{error.name or 'a package'} cannot be imported ({error})."
    problem = next((_needed(p) for p in found if p.required and p.advice), problem or _verdict(checks))
    if as_json:
        print(json.dumps(_record(about, found, examined, checks, problem), indent=1))
    else:
        _show([*_installed(about, found), *_computing(examined)], checks)
    if problem:
        complain(f"allukan: {problem}")
        raise typer.Exit(1)
    if not as_json:
        say("All is well.")


def _examined(quiet: bool) -> tuple[Examination, list[Check]]:
    from allukan.doctor.examination import examine, self_test

    examined = examine()
    if examined.loops and not examined.loops.compiled and not quiet:
        complain("Compiling the loops of the engine native, about 10 s, as at the first use …")
    return examined, self_test(examined.engines)


def _needed(package: Package) -> str:
    state = f"{package.version} is not what is needed" if package.version else "is missing"
    return f"the package {package.name} {state}: {package.advice}"


def _verdict(checks: Sequence[Check]) -> str:
    from allukan.doctor.examination import verdict

    return verdict(checks)


def _record(about: dict[str, Any], found: list[Package], examined: Examination | None, checks: list[Check], problem: str) -> Any:
    rest = asdict(examined) if examined else {}
    return {
        **about,
        "packages": [asdict(package) for package in found],
        **rest,
        "checks": [asdict(c) for c in checks],
        "problem": problem,
    }


def _installed(about: dict[str, Any], found: Sequence[Package]) -> Iterator[tuple[str, str]]:
    yield "allukan", about["allukan"] + (f", commit {about['commit']}" if about["commit"] else "")
    yield "python", about["python"]
    yield "packages", ", ".join(f"{package.name} {package.version}" for package in found if package.version)
    yield from ((package.name, f"missing; {package.advice}") for package in found if not package.version)


def _computing(examined: Examination | None) -> Iterator[tuple[str, str]]:
    if examined is None:
        return
    machine, loops = examined.machine, examined.loops
    yield "CPU", f"{machine.processor}, {machine.threads} threads of torch"
    yield "GPU", ", ".join(machine.gpus) or f"none: {machine.no_gpu}"
    for e in examined.engines:
        others = [name for name, obstacle in e.obstacles.items() if not obstacle and name != e.chosen]
        yield f"engine on {e.device}", f"{e.chosen}; {', '.join(others)} can be asked for"
        yield from ((f"  not {name}", obstacle) for name, obstacle in e.obstacles.items() if obstacle)
    if loops is not None:
        state = "compiled" if loops.compiled else "compiled at the first use, in about 10 s"
        kept = (
            f"kept in {loops.folder}" if loops.writable else "kept nowhere: set NUMBA_CACHE_DIR to a folder that can be written"
        )
        yield "native", f"threads are {loops.team}; machine code is {state}, {kept}"


def _show(facts: Sequence[tuple[str, str]], checks: Sequence[Check]) -> None:
    from rich.table import Table

    table = Table(show_header=False, box=None)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in facts:
        table.add_row(name, value)
    for check in checks:
        table.add_row(f"test {check.name} on {check.device}", _outcome(check))
    console.print(table)


def _outcome(check: Check) -> str:
    if check.failure:
        return f"wrong: {check.failure}"
    return f"right: relative error {check.value_error:.0e}, of gradients {check.gradient_error:.0e}, {check.seconds:.2f} s"
