"""The bare HTML page: style, sections, tables and figures. Whatever a user wrote is escaped here or by the caller, as stated."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence
from pathlib import Path

from allukan._version import __version__
from allukan.files import write_text

_STYLE = """
:root { color-scheme: light dark; --line: #8884; --page: #fff; --text: #1b1f24; --plot: none; }
@media (prefers-color-scheme: dark) { :root { --page: #14171a; --text: #e6e8ea; --plot: invert(.92) hue-rotate(180deg); } }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 64rem; margin: 2rem auto; padding: 0 1rem;
  background: var(--page); color: var(--text); }
h1 { font-size: 1.7rem; line-height: 1.2; overflow-wrap: anywhere; }
h2 { font-size: 1.2rem; margin: 2.5rem 0 .8rem; padding-bottom: .2rem; border-bottom: 1px solid var(--line); }
h2 { overflow-wrap: anywhere; }
h3 { font-size: 1rem; margin: 0 0 .3rem; } p { margin: .3rem 0 .8rem; max-width: 48rem; }
.wide { overflow-x: auto; } table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .3rem 1.2rem .3rem 0; text-align: left; vertical-align: top; }
tr + tr { border-top: 1px solid var(--line); } td small { opacity: .7; white-space: nowrap; }
.grid { display: grid; gap: 1rem; grid-template-columns: repeat(auto-fit, minmax(min(15rem, 100%), 1fr)); }
.halves { grid-template-columns: repeat(auto-fit, minmax(min(20rem, 100%), 1fr)); }
.small { gap: .6rem; grid-template-columns: repeat(auto-fill, minmax(7.5rem, 1fr)); }
figure { margin: 0; min-width: 0; } img { width: 100%; display: block; }
figcaption { font-size: .8rem; line-height: 1.35; overflow-wrap: anywhere; } figcaption small { opacity: .7; }
.plot, .key { filter: var(--plot); } .overlay { border-radius: .3rem; max-width: 26rem; }
.small figure { border: 1px solid var(--line); border-radius: .4rem; padding: .3rem; }
.keys { display: flex; flex-wrap: wrap; gap: .2rem 1.5rem; overflow-wrap: anywhere; }
.key, .mark { display: inline-block; width: 1.6rem; border-top: .25rem solid; margin-right: .4rem; vertical-align: middle; }
.dashed { border-top-style: dashed; }
footer { margin-top: 3rem; font-size: .85rem; border-top: 1px solid var(--line); padding-top: .5rem; }
"""
_FOOTER = f"""<footer>
<p>IoU: pixels in both masks over pixels in either. Dice: twice the pixels in both over the sum of both masks. HD95: the distance
within which 95 % of either outline lies from the other, the larger of the two directions. Surface Dice: the share of both
outlines within 2 pixels of the other, or 2 mm where the spacing is given.</p>
<p>Where truth and prediction are both empty the scores are 1 and HD95 is 0; where only one is empty (missed, false alarm) the
scores are 0 and HD95 is the diagonal of the image. Means over cases, with 95 % bootstrap intervals that draw whole groups
(patients, sequences) where these are known.</p>
<p>allukan {__version__}. Not a medical device.</p></footer>"""


def write(title: str, sections: Iterable[str], out: Path) -> Path:
    """Write the page, whole or not at all: a reader never sees half of it. ``title`` is text, ``sections`` are HTML."""
    heading = html.escape(title)
    page = (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{heading}</title>'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><style>{_STYLE}</style></head>'
        f"<body><h1>{heading}</h1>{''.join(sections)}{_FOOTER}</body></html>\n"
    )
    out.parent.mkdir(parents=True, exist_ok=True)
    write_text(out, page)
    return out


def section(title: str, body: str) -> str:
    """``title`` is text, ``body`` HTML."""
    return f"<section><h2>{html.escape(title)}</h2>{body}</section>"


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table that scrolls by itself on a narrow screen. Cells are HTML."""
    head = "".join(f"<th>{cell}</th>" for cell in header)
    body = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
    return f'<div class="wide"><table><tr>{head}</tr>{body}</table></div>'


def figure(source: str, alternative: str, caption: str = "", *, kind: str) -> str:
    """``source`` is a data URI, ``alternative`` text, ``caption`` HTML."""
    text = f"<figcaption>{caption}</figcaption>" if caption else ""
    return f'<figure><img class="{kind}" src="{source}" alt="{html.escape(alternative)}">{text}</figure>'
