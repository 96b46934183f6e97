"""Amounts of memory and of time, as people write them."""

from __future__ import annotations

import re

from allukan.errors import UserError, shown

_UNITS = {"": 1, "k": 1, "m": 2, "g": 3, "t": 4}
_MEMORY = re.compile(r"(\d+(?:\.\d+)?)\s*([kmgt]?)(i?)(b?)", re.IGNORECASE)
_TIME = re.compile(r"(?:(\d+(?:\.\d+)?)d)?(?:(\d+(?:\.\d+)?)h)?(?:(\d+(?:\.\d+)?)m(?:in)?)?(?:(\d+(?:\.\d+)?)s)?", re.IGNORECASE)
_SECONDS = (86_400, 3600, 60, 1)


def parse_memory(text: str) -> int:
    """Bytes: ``8GiB`` and ``8G`` are 8 · 2³⁰, ``8GB`` 8 · 10⁹; ``UserError`` for anything else, a number without a unit too.

    >>> parse_memory("8GiB"), parse_memory("500 MB"), parse_memory("1.5g")
    (8589934592, 500000000, 1610612736)
    """
    found = _MEMORY.fullmatch(text.strip()) if isinstance(text, str) else None
    if not found or not found[2] or (found[3] and not found[4]):
        raise UserError(f"memory {shown(text)} is not usable: give a number and its unit, as 8GiB or 500MB.")
    decimal = found[4] and not found[3]
    amount = int(float(found[1]) * (1000 if decimal else 1024) ** _UNITS[found[2].lower()])
    if not 2**20 <= amount <= 2**50:
        raise UserError(f"memory {shown(text)} is not usable: give from 1MiB to 1024TiB.")
    return amount


def parse_time(text: str) -> float:
    """Seconds: ``90s``, ``30m``, ``2h``, ``1h30m``, ``1d``; ``UserError`` for anything else, a number without a unit too.

    >>> parse_time("30m"), parse_time("1h30m"), parse_time("90s")
    (1800.0, 5400.0, 90.0)
    """
    found = _TIME.fullmatch(text.replace(" ", "")) if isinstance(text, str) else None
    seconds = sum(float(part) * unit for part, unit in zip(found.groups(), _SECONDS, strict=True) if part) if found else 0.0
    if not 1 <= seconds <= 3650 * 86_400:
        raise UserError(f"time {shown(text)} is not usable: give a number and its unit, as 30m, 2h, 90s or 1h30m.")
    return seconds


def memory_text(amount: float) -> str:
    """Bytes for people.

    >>> memory_text(8 * 2**30), memory_text(3_000_000)
    ('8.0 GiB', '2.9 MiB')
    """
    power = 3 if amount >= 2**30 else 2
    return f"{amount / 1024**power:.1f} {('MiB', 'GiB')[power - 2]}"


def time_text(seconds: float) -> str:
    """Seconds for people, in the unit that gives a small number.

    >>> time_text(90), time_text(5400), time_text(40)
    ('1.5 minutes', '1.5 hours', '40 seconds')
    """
    unit, name = next(((unit, name) for unit, name in ((3600, "hours"), (60, "minutes")) if seconds >= unit), (1, "seconds"))
    return f"{seconds / unit:.3g} {name}"
