"""Which files make up one image: patterns of their names, names of their channels, and how many channels each brings."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from allukan.data.dataset import Dataset
from allukan.data.decode import header
from allukan.data.names import bare
from allukan.data.pairing import Problem
from allukan.errors import UserError

_SEPARATORS = re.compile(r"([/_\-. ]+)")


def match_pattern(path: str, pattern: str) -> tuple[str, str] | None:
    """Folders and name of the image that a file belongs to, where its path without suffix has the form of ``pattern``.

    >>> match_pattern("deep/P1_0001", "*_0001"), match_pattern("site/t1/P1", "t1/*"), match_pattern("P1_t2", "*_t1")
    (('deep/', 'P1'), ('site/', 'P1'), None)
    """
    before, star, after = pattern.partition("*")
    found = re.fullmatch(rf"((?:.*/)?){re.escape(before)}([^/]+){re.escape(after)}", path) if star else None
    return (found[1], found[2]) if found else None


def channel_names(info: Mapping[str, Any]) -> tuple[str, ...]:
    """Names in the order of the channels: nnU-Net's ``channel_names`` or the Decathlon's ``modality``; empty without any.

    >>> channel_names({"modality": {"1": "T2", "0": "T1"}})
    ('T1', 'T2')
    """
    given = info.get("channel_names", info.get("modality"))
    if isinstance(given, Mapping):
        numbered = [(k, v) if str(k).isdigit() else (v, k) for k, v in given.items()]
        if all(str(number).isdigit() for number, _ in numbered):
            return tuple(str(name) for _, name in sorted(numbered, key=lambda item: int(item[0])))
    return tuple(map(str, given)) if isinstance(given, list) else ()


def file_channels(dataset: Dataset) -> tuple[int, ...]:
    """Channels that every file of an image brings: 3 for the only one as soon as one is in colour. Reads the headers alone.

    Of volumes, whose headers are not looked at, as many as there are names for the only file, and one for each of several.
    Raises ``UserError`` for a file that has none, and where images differ otherwise.
    """
    if dataset.spatial_dims == 3:
        count = len(dataset.patterns)
        return (max(1, len(dataset.channel_names)),) if count == 1 else (1,) * count
    with ThreadPoolExecutor() as pool:
        seen = list(pool.map(lambda case: tuple(header(path)[0] for path in case.images), dataset.cases))
    if set(seen) == {(1,), (3,)}:
        return (3,)
    for case, counts in zip(dataset.cases, seen, strict=True):
        if counts != seen[0]:
            raise UserError(
                f"image {case.id!r} of {dataset.root} has {_sum(counts)} channels but {dataset.cases[0].id!r} has "
                f"{_sum(seen[0])}: all must have as many, only grey can stand beside RGB."
            )
    return seen[0]


def _sum(counts: Sequence[int]) -> str:
    return " + ".join(map(str, counts))


def names_of_files(names: Sequence[str], channels: Sequence[int]) -> tuple[str, ...]:
    """A name a file, from one name a file or one a channel; empty where there are as many as neither.

    >>> names_of_files(["R", "G", "B", "depth"], [3, 1])
    ('R, G, B', 'depth')
    """
    if len(names) == len(channels):
        return tuple(names)
    if len(names) != sum(channels):
        return ()
    rest = iter(names)
    return tuple(", ".join(next(rest) for _ in range(count)) for count in channels)


def file_patterns(images: Mapping[str, tuple[Path, ...]], where: Path, problems: list[Problem]) -> tuple[str, ...]:
    """What tells the files of an image apart in their paths, ``*`` for what they share; "*" for images of one file.

    Empty strings where most images do not follow one pattern. An image that has the files of the others in another order is a
    problem: its channels would be mixed up.
    """
    found = {name: _of_one(files) for name, files in images.items()}
    usual, times = Counter(found.values()).most_common(1)[0] if found else ((), 0)
    for name, patterns in found.items():
        if patterns != usual and sorted(patterns) == sorted(usual):
            order = ", ".join(path.name for path in images[name])
            problems.append(Problem(name, f"{where} gives {name!r} in the order {order}, others as {', '.join(usual)}: sort it."))
    if times * 2 <= len(found) or len(set(usual)) < len(usual):
        return ("",) * len(usual)
    return usual if all(sorted(p) == sorted(usual) for p in found.values()) else ("",) * len(usual)


def _of_one(files: Sequence[Path]) -> tuple[str, ...]:
    """Patterns of the files of one image: ``P1_t1``, ``P1_t2`` → ``*_t1``, ``*_t2``."""
    if len(files) == 1:
        return ("*",)
    parts = [_SEPARATORS.split(bare(path).as_posix()) for path in files]
    start = _shared(parts)
    end = _shared([part[start:][::-1] for part in parts])
    return tuple(_pattern(part[:start], part[start : len(part) - end], part[len(part) - end :]) for part in parts)


def _shared(parts: Sequence[Sequence[str]]) -> int:
    """Length of what all begin with."""
    same = [len(set(column)) == 1 for column in zip(*parts, strict=False)]
    return (*same, False).index(False)


def _pattern(head: Sequence[str], middle: Sequence[str], tail: Sequence[str]) -> str:
    """With ``*`` for the part of the head or the tail that names the image."""
    before, own, after = "".join(head), "".join(middle), "".join(tail)
    stem = before.rpartition("/")[2]
    if stem:  # P1_|t1
        return "*" + (head[-1] if _SEPARATORS.fullmatch(head[-1]) else "") + own + after
    if "/" in after:  # x/|t1|/P1
        return own + after.rpartition("/")[0] + "/*"
    return own + tail[0] + "*" if after else ""  # |t1|_P1
