"""What a U-shape may have beyond U-KAN's: other widths, more layers, shortcuts, stochastic depth, deep supervision."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from annotated_types import Ge, Le, Lt, MaxLen, MinLen
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
Axes = tuple[int, ...]  # one number a spatial axis
_STAGES = 5  # of U-KAN, and of the sizes
_MOST_STAGES = 9  # nnU-Net's plans for large pictures have eight
_Stride = Annotated[Whole, Ge(1), Le(2)]
_Kernel = Literal[1, 3]


def _tuples(value: Any) -> Any:
    """Lists of lists, as JSON and YAML have them, as tuples of tuples."""
    return tuple(_tuples(one) for one in value) if isinstance(value, list | tuple) else value


@option_set("option of topology", "topology: ", ValueError)
class Topology:
    """Options of the U-shape; the defaults are U-KAN's.

    Raises ``ValueError`` with one sentence for a value that is not usable, ``TypeError`` for an option that does not exist.
    """

    widths: Annotated[
        Annotated[tuple[Count, ...], MinLen(1), MaxLen(_MOST_STAGES)] | None,
        BeforeValidator(_tuples),
        Must("five whole numbers of at least 1 and at most 65536, or with strides one for each of them"),
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
    full_depth: Annotated[
        Annotated[Whole, Ge(0), Le(_DEEPEST)] | None,
        Help(
            "layers at the size of the image after the last of the decoder, where the map before the first pooling is added",
            "none",
        ),
    ] = None
    strides: Annotated[
        Annotated[tuple[_Stride | tuple[_Stride, ...], ...], MinLen(1), MaxLen(_MOST_STAGES)] | None,
        BeforeValidator(_tuples),
        Must("one to nine of 1 or 2, each a number or a list of one for every axis"),
        Help(
            "what each stage of the encoder divides the size by, as [2, 2, [1, 2, 2]]: a number, or one an axis; the first "
            "three stages are convolutional, further ones tokenised; fewer strides are fewer stages, more than five need widths",
            default="2 for each of five stages",
        ),
    ] = None
    kernels: Annotated[
        Annotated[tuple[_Kernel | tuple[_Kernel, ...], ...], MinLen(2), MaxLen(_MOST_STAGES + 1)] | None,
        BeforeValidator(_tuples),
        Must("of 1 or 3, each a number or a list of one for every axis"),
        Help(
            "size of convolutions at every resolution from the finest to the bottom, one more than strides: 1 along an axis of "
            "voxels that are still much longer than wide",
            default="3 everywhere",
        ),
    ] = None

    def __post_init__(self) -> None:
        stages = self.stages
        if self.widths is None and stages > _STAGES:
            raise ValueError(f"topology: widths must be given with {stages} strides, as sizes have those of five stages")
        if self.widths is not None and len(self.widths) != stages:
            raise ValueError(f"topology: widths must be one for each of {stages} stages, got {self.widths}")
        if self.kernels is not None and len(self.kernels) != stages + 1:
            raise ValueError(f"topology: kernels must be {stages + 1}, one more than strides, got {len(self.kernels)}")

    @property
    def stages(self) -> int:
        """Stages of the encoder, the tokenised ones included."""
        return _STAGES if self.strides is None else len(self.strides)

    def widths_of(self, size: str) -> Axes:
        """The width of every stage; raises ``ValueError`` for a size that is not in ``SIZES``.

        >>> Topology().widths_of("base"), Topology(strides=(2, 2, 2)).widths_of("base")
        ((16, 32, 128, 160, 256), (16, 32, 128))
        """
        if size not in SIZES:
            raise ValueError(f"unknown size {size!r}: {suggestion(size, SIZES)}")
        return self.widths or SIZES[size][: self.stages]

    def strides_of(self, spatial_dims: int) -> tuple[Axes, ...]:
        """The stride of every stage along every axis; ``ValueError`` for another number of axes.

        >>> Topology(strides=(2, (1, 2, 2))).strides_of(3)
        ((2, 2, 2), (1, 2, 2))
        """
        return _for_every_axis("strides", self.strides or (2,) * _STAGES, spatial_dims)

    def kernels_of(self, spatial_dims: int) -> tuple[Axes, ...]:
        """The kernel at every resolution along every axis, the finest first; ``ValueError`` as ``strides_of``."""
        return _for_every_axis("kernels", self.kernels or (3,) * (self.stages + 1), spatial_dims)

    def updated(self, given: Topology | Mapping[str, Any] | None) -> Topology:
        """``given`` as it is, this with the fields of a mapping changed, or this. Raises ``TypeError`` for an unknown field."""
        return given if isinstance(given, Topology) else changed(self, {} if given is None else given, "topology")


def _for_every_axis(name: str, values: tuple[int | Axes, ...], spatial_dims: int) -> tuple[Axes, ...]:
    axes = tuple((value,) * spatial_dims if isinstance(value, int) else value for value in values)
    if wrong := next((value for value in axes if len(value) != spatial_dims), None):
        raise ValueError(f"topology: {name} must name {spatial_dims} axes, got {list(wrong)}")
    return axes
