"""What a U-shape may have beyond U-KAN's: other widths, more layers, shortcuts, stochastic depth, deep supervision."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from annotated_types import Ge, Le, Lt
from pydantic import BeforeValidator

from allukan.errors import suggestion
from allukan.options import Count, Help, Must, Number, Whole, changed, option_set

SIZES: dict[str, tuple[int, ...]] = {
    "tiny": (8, 16, 64, 80, 128),
    "small": (12, 24, 96, 120, 192),
    "base": (16, 32, 128, 160, 256),  # U-KAN's widths
}
_DEEPEST = 100  # layers a stage
Depth = Annotated[Whole, Ge(1), Le(_DEEPEST)]


@option_set("option of topology", "topology: ", ValueError)
class Topology:
    """Options of the U-shape; the defaults are U-KAN's.

    Raises ``ValueError`` with one sentence for a value that is not usable, ``TypeError`` for an option that does not exist.
    """

    widths: Annotated[
        tuple[Count, Count, Count, Count, Count] | None,
        BeforeValidator(lambda widths: tuple(widths) if isinstance(widths, list) else widths),
        Must("five whole numbers of at least 1 and at most 65536"),
        Help("channels of the three convolutional stages and the two tokenised ones", default="those of the size"),
    ] = None
    depth: Annotated[Depth, Help("layers a stage of the encoder and the decoder")] = 2
    token_depth: Annotated[Depth, Help("linear layers, each with its depthwise convolution, a token block")] = 3
    residual: Annotated[bool, Help("every stage adds its input, through a 1×1 layer and a norm where channels change")] = False
    drop_path: Annotated[
        Number,
        Ge(0),
        Lt(1),
        Must("a probability below 1"),
        Help(
            "probability that a sample skips the residual branch of a token block or a residual stage in training (stochastic "
            "depth, arXiv 1603.09382); 0 for the first of them, growing linearly to this for the last"
        ),
    ] = 0.0
    deep_supervision: Annotated[
        bool, Help("a further head at each coarser stage of the decoder, for UShape.levels; used in training only")
    ] = False

    def widths_of(self, size: str) -> tuple[int, ...]:
        """The five widths; raises ``ValueError`` for a size that is not in ``SIZES``.

        >>> Topology().widths_of("base")
        (16, 32, 128, 160, 256)
        """
        if size not in SIZES:
            raise ValueError(f"unknown size {size!r}: {suggestion(size, SIZES)}")
        return self.widths or SIZES[size]

    def updated(self, given: Topology | Mapping[str, Any] | None) -> Topology:
        """``given`` as it is, this with the fields of a mapping changed, or this. Raises ``TypeError`` for an unknown field."""
        return given if isinstance(given, Topology) else changed(self, {} if given is None else given, "topology")
