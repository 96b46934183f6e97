"""Pages and figures whose numbers come from a result, so that one command renews them."""

from __future__ import annotations

from pathlib import Path

from matplotlib.figure import Figure

from allukan.errors import UserError
from allukan.files import read_text, write_text


def check_page(page: Path | None, name: str) -> None:
    """``UserError`` unless the page, if any, has the lines ``<!-- NAME -->`` and ``<!-- /NAME -->`` for a table."""
    if page is not None:
        _around(page, name)


def fill_block(page: Path, name: str, text: str) -> None:
    """Put ``text`` between the lines ``<!-- NAME -->`` and ``<!-- /NAME -->`` of a page; raises as ``check_page`` does."""
    before, after = _around(page, name)
    write_text(page, f"{before}\n{text}\n\n{after}")


def _around(page: Path, name: str) -> tuple[str, str]:
    first, last = f"<!-- {name} -->\n", f"<!-- /{name} -->"
    before, opened, rest = (read_text(page) if page.is_file() else "").partition(first)
    _, closed, after = rest.partition(last)
    if not opened or not closed:
        raise UserError(f"{page} has no lines {first.strip()} and {last}: add them where the table shall stand.")
    return before + first, last + after


def check_figure(path: Path | None) -> None:
    """``UserError`` unless the figure, if any, can be drawn: PNG or SVG, in a folder that exists."""
    if path is not None and (path.suffix.lower() not in (".png", ".svg") or not path.parent.is_dir()):
        raise UserError(f"{path} cannot be drawn: end its name in .png or .svg, in a folder that exists.")


def save(figure: Figure, path: Path) -> None:
    """Write a figure; raises as ``check_figure`` does. The same figure gives the same SVG, whatever the date."""
    check_figure(path)
    figure.savefig(path, metadata={"Date": None} if path.suffix.lower() == ".svg" else None)
