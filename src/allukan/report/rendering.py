"""Templates of pages: one file that loads nothing from elsewhere. Whatever a template is given is text, and escaped."""

from __future__ import annotations

from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from allukan._version import __version__


def templates_beside(module: str) -> Environment:
    """The templates in the folder "templates" beside a module, given as its ``__file__``; they know the ``version``."""
    found = Environment(
        loader=FileSystemLoader(Path(module).with_name("templates")),
        autoescape=True,
        undefined=StrictUndefined,  # a misspelt name is an error, not a gap
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.globals["version"] = __version__
    return found
