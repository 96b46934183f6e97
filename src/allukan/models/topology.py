"""What a U-shape may have beyond U-KAN's: other widths, more layers, shortcuts, stochastic depth, deep supervision."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from allukan.nn.spline import changed

SIZES: dict[str, tuple[int, ...]] = {
    "tiny": (8, 16, 64, 80, 128),
    "small": (12, 24, 96, 120, 192),
    "base": (16, 32, 128, 160, 256),  # U-KAN's widths
}


@dataclass(frozen=True)
class Topology:
    """Options of the U-shape; the defaults are U-KAN's.

    Attributes:
        widths: channels of the three convolutional stages and the two tokenised ones; None is those of the size.
        depth: layers a stage of the encoder and the decoder.
        token_depth: linear layers, each with its depthwise convolution, a token block.
        residual: every stage adds its input, through a 1×1 layer and a norm where the channels change.
        drop_path: probability that a sample skips the residual branch of a token block or a residual stage in training
            (stochastic depth, arXiv 1603.09382); 0 for the first of them, growing linearly to this for the last.
        deep_supervision: a further head at each coarser stage of the decoder, for ``UShape.levels``; used in training only.
    """

    widths: tuple[int, ...] | None = None
    depth: int = 2
    token_depth: int = 3
    residual: bool = False
    drop_path: float = 0.0
    deep_supervision: bool = False

    def __post_init__(self) -> None:
        for name in ("depth", "token_depth"):
            if not _whole(getattr(self, name)):
                raise ValueError(f"topology: {name} must be a whole number above 0, got {getattr(self, name)!r}")
        for name in ("residual", "deep_supervision"):
            if not isinstance(getattr(self, name), bool):
                raise ValueError(f"topology: {name} must be true or false, got {getattr(self, name)!r}")
        if isinstance(self.drop_path, bool) or not isinstance(self.drop_path, int | float) or not 0 <= self.drop_path < 1:
            raise ValueError(f"topology: drop_path must be a probability below 1, got {self.drop_path!r}")
        if self.widths is not None:
            widths = tuple(self.widths) if isinstance(self.widths, list | tuple) else ()
            if len(widths) != 5 or not all(map(_whole, widths)):
                raise ValueError(f"topology: widths must be five whole numbers above 0, got {self.widths!r}")
            object.__setattr__(self, "widths", widths)

    def widths_of(self, size: str) -> tuple[int, ...]:
        """The five widths; raises ``ValueError`` for a size that is not in ``SIZES``.

        >>> Topology().widths_of("base")
        (16, 32, 128, 160, 256)
        """
        if size not in SIZES:
            raise ValueError(f"unknown size {size!r}; choose one of {', '.join(SIZES)}")
        return self.widths or SIZES[size]

    def updated(self, given: Topology | Mapping[str, Any] | None) -> Topology:
        """``given`` as it is, this with the fields of a mapping changed, or this. Raises ``TypeError`` for an unknown field."""
        if isinstance(given, Topology):
            return given
        if given is not None and not isinstance(given, Mapping):
            raise TypeError(f"topology must be a mapping of {', '.join(f.name for f in fields(self))}, got {given!r}")
        return changed(self, given or {}, "topology")


def _whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0
