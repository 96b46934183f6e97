"""The one exception that means: the input is at fault, not the program; and how its sentences are built."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

_LONGEST = 120  # characters of a value in a sentence


class UserError(ValueError):
    """Bad input, told in one sentence: what is wrong, where (file, field, value) and what to do.

    The command line prints the sentence and exits with code 2; Python callers may catch it as a ``ValueError``.
    """


def suggestion(name: object, known: Iterable[str]) -> str:
    """What to do about a name that is not known: the nearest of those that are, or else all of them.

    >>> suggestion("epoch", ["epochs", "ema"]), suggestion("x", ["epochs", "ema"])
    ("did you mean 'epochs'?", 'choose one of epochs, ema.')
    """
    names = list(known)
    near = get_close_matches(str(name), names, n=1, cutoff=0.7)
    return f"did you mean {near[0]!r}?" if near else f"choose one of {', '.join(names)}."


def shown(value: object) -> str:
    """A value as it stands in a sentence: as Python writes it, cut where that is long.

    >>> shown("8"), shown("8" * 1000)[-3:]
    ("'8'", '88…')
    """
    text = repr(value)
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"


def full_stop(text: object) -> str:
    """A sentence with its end.

    >>> full_stop("it is wrong"), full_stop("did you mean 'a'?")
    ('it is wrong.', "did you mean 'a'?")
    """
    return str(text) if str(text).endswith((".", "?")) else f"{text}."
