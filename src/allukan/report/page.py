"""A page from a template, in one file that loads nothing from elsewhere. Whatever a template is given is text, and escaped."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from numpy.typing import NDArray

from allukan._version import __version__
from allukan.files import write_text
from allukan.report import overlays, palette, plots


def _range(values: NDArray[np.floating]) -> str:
    return f"{values.min():.2g} … {values.max():.2g}".replace("-", "−")


_TEMPLATES = Environment(
    loader=FileSystemLoader(Path(__file__).with_name("templates")),
    autoescape=True,
    undefined=StrictUndefined,  # a misspelt name is an error, not a gap
    trim_blocks=True,
    lstrip_blocks=True,
)
_TEMPLATES.filters["range"] = _range
_TEMPLATES.globals |= {
    "version": __version__,
    "truth": palette.TRUTH,
    "prediction": palette.PREDICTION,
    "contour_figure": overlays.contour_figure,
    "activation": plots.activation,
}


def write(out: Path, template: str, **content: Any) -> Path:
    """Fill a template of ``templates/`` and write it, whole or not at all: a reader never sees half of it."""
    page = _TEMPLATES.get_template(template).render(content)
    out.parent.mkdir(parents=True, exist_ok=True)
    write_text(out, page)
    return out
