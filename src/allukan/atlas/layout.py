"""Where the layers of a network stand on the page: a U for a U-shape, else one column."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass
class Stage:
    """Layers that belong together.

    Attributes:
        title: what their names begin with.
        row: from 1, the highest resolution.
        column: 1 on the way down, 2 on the way up.
        layers: their names.
    """

    title: str
    row: int = 1
    column: int = 1
    layers: list[str] = field(default_factory=list)


def stages(names: Sequence[str]) -> list[Stage]:
    """Stages in the order of the data: of a U-shape encoder and embeddings, decoder with its tokens, head; of others as named.

    >>> [(s.title, s.row, s.column) for s in stages(["encoder.0.a", "encoder.1.a", "decoder.0.a", "decoder.1.a", "head"])]
    [('encoder.0', 2, 1), ('encoder.1', 3, 1), ('decoder.0', 3, 2), ('decoder.1', 2, 2), ('head', 1, 2)]
    >>> [(s.title, s.row, s.column) for s in stages(["0", "2"])]
    [('0', 1, 1), ('2', 2, 1)]
    """
    groups: dict[str, Stage] = {}
    for name in names:
        title = _title(name)
        groups.setdefault(title, Stage(title)).layers.append(name)
    found = {_part(title) for title in groups}
    if "decoder" in found and found & {"encoder", "embeddings"}:
        return _u_shape(list(groups.values()))
    for row, stage in enumerate(groups.values(), 1):
        stage.row = row
    return list(groups.values())


def short(name: str) -> str:
    """The name of a layer below the title of its stage.

    >>> [short(name) for name in ("encoder.0.fork", "embeddings.1.0", "embeddings.1.1.mixers.2", "head")]
    ['fork', 'embed', 'tokens.mixers.2', 'head']
    """
    first, *rest = name.split(".")
    if first == "embeddings" and len(rest) > 1:
        return ".".join(["embed" if rest[1] == "0" else "tokens", *rest[2:]])
    if first == "decoder_tokens":
        return ".".join(["tokens", *rest[1:]])
    return ".".join(rest[1:]) if len(rest) > 1 and rest[0].isdecimal() else name or "the network"


def _title(name: str) -> str:
    """The first part of a name and the number that follows, tokens of the decoder beside the stage that they follow."""
    first, _, rest = name.partition(".")
    number = rest.partition(".")[0]
    first = "decoder" if first == "decoder_tokens" else "head" if first == "heads" else first
    return f"{first}.{number}" if number.isdecimal() and first != "head" else first or "network"


def _part(title: str) -> str:
    return title.partition(".")[0]


def _u_shape(found: list[Stage]) -> list[Stage]:
    """Row 1 is the head's; below it the stage of the decoder that gives the full size stands beside the first of the encoder.

    What else there is, as a bottleneck, stands below them all.
    """
    down = [stage for stage in found if _part(stage.title) in ("encoder", "embeddings")]
    up = sorted((stage for stage in found if _part(stage.title) == "decoder"), key=lambda stage: _number(stage.title))
    others = [stage for stage in found if stage not in down and stage not in up]
    for row, stage in enumerate(down, 2):
        stage.row = row
    for row, stage in enumerate(reversed(up), 2):
        stage.row, stage.column = row, 2
    for row, stage in enumerate(others, 2 + max(len(down), len(up))):
        stage.row, stage.column = row, 2
    if others:
        others[-1].row = 1  # of the head, which comes last
    return [*down, *up, *others]


def _number(title: str) -> int:
    """0 where a network has one decoder."""
    return int(title.partition(".")[2] or 0)
