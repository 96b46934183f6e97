"""The value for an image: its values as the file has them, where they lie, and which file they came from."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from allukan.data.volumes.geometry import CANONICAL, Axes, Geometry
from allukan.errors import UserError


@dataclass(frozen=True)
class Source:
    """What was read, for writing a label map of the same kind.

    Attributes:
        kind: "nifti", "nrrd", "meta", "dicom", "tiff" or "picture"; "array" for none.
        paths: the files, slices in the order of axis D.
        header: of a NIfTI, so that its matrices come back bit for bit.
    """

    kind: str = "array"
    paths: tuple[Path, ...] = ()
    header: Any = None

    def elsewhere(self) -> Source:
        """For an image on another grid than that of its files, where their matrices and slices do not lie."""
        return replace(self, kind="array" if self.kind == "dicom" else self.kind, header=None)


@dataclass(frozen=True, eq=False)
class Image:
    """An image of two or three dimensions.

    Attributes:
        array: ``(C, D, H, W)`` or ``(C, H, W)``, in the precision of the file.
        geometry: of its axes (D, H, W) or (H, W); conventions in ``allukan.data.volumes.geometry``.
        source: what it was read from.
    """

    array: NDArray[Any]
    geometry: Geometry
    source: Source = field(default_factory=Source)

    def __post_init__(self) -> None:
        if self.array.shape[1:] != self.geometry.shape or len(self.array.shape) < 3:
            raise UserError(f"an array of shape {self.array.shape} is none of channels and {self.geometry.shape} voxels.")

    @property
    def spacing_mm(self) -> tuple[float, ...]:
        """Distance of neighbours along (D, H, W) or (H, W)."""
        return self.geometry.spacing_mm

    @property
    def origin(self) -> tuple[float, ...]:
        """World position of the centre of the first voxel."""
        return self.geometry.origin

    @property
    def direction(self) -> NDArray[np.float64]:
        """``(S, S)``: a column of unit length in the world for each axis of the array."""
        return np.asarray(self.geometry.direction)

    def moved(self, axes: Axes) -> Image:
        """With its axes in another order or direction; ``image.moved(a).moved(a.inverse)`` is the image, exactly."""
        geometry = self.geometry.moved(axes)
        source = self.source if geometry == self.geometry else self.source.elsewhere()
        return Image(np.ascontiguousarray(axes.apply(self.array)), geometry, source)

    def reoriented(self, orientation: str = "") -> Image:
        """Turned by quarter turns and mirrors so that its axes grow towards ``orientation``, as nearly as they can.

        Without one: towards head, back and left ("SPL", of pictures "PL"). Raises ``UserError`` for no such orientation.
        """
        return self.moved(self.geometry.axes_to(orientation or CANONICAL[len(self.geometry.shape)]))
