"""TIFF files of many pages: the slices of a volume."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray

from allukan.data import tiff
from allukan.data.volumes.geometry import Geometry
from allukan.data.volumes.image import Image, Source
from allukan.data.volumes.limits import check_channels, check_claim
from allukan.errors import UserError
from allukan.files import whole

_SLICES, _CHANNELS = "ZIQ", "CS"  # axes as tifffile names them: Z said to be slices; I, Q whatever follows itself


def is_stack(path: Path) -> bool:
    """Whether the first image of a TIFF has slices."""
    with tifffile.TiffFile(path) as file:
        series = file.series[0]
        return any(axis in _SLICES + "T" and size > 1 for axis, size in zip(series.axes, series.shape, strict=True))


def read(path: Path, channels: int | None = None) -> Image:
    """The slices of a stack, all of one size and type, ``(C, D, H, W)``; sizes in mm are not taken from TIFF.

    Raises ``UserError`` for times, for pages that do not fit together, and for what is not read in a single TIFF either.
    """
    with tifffile.TiffFile(path) as file:
        series = file.series[0]
        sizes = dict(zip(series.axes, series.shape, strict=True))
        strange = [axis for axis, size in sizes.items() if axis not in _SLICES + _CHANNELS + "YX" and size > 1]
        if strange or len(file.series) > 1 or sum(axis in _SLICES and n > 1 for axis, n in sizes.items()) > 1:
            found = (
                f"axes {series.axes} of {series.shape}" if len(file.series) == 1 else f"{len(file.series)} images of their own"
            )
            raise UserError(f"{path} is no single volume ({found}): save its slices as one stack, without times.")
        page = series.keyframe
        tiff.check_kind(page, path)
        if page.colormap is not None or page.photometric == tifffile.PHOTOMETRIC.MINISWHITE:
            raise UserError(f"{path} is a stack with a palette or with white as 0, which is not read: save it as plain grey.")
        shape = (np.prod([n for axis, n in sizes.items() if axis in _SLICES], dtype=int), sizes["Y"], sizes["X"])
        count = int(np.prod([n for axis, n in sizes.items() if axis in _CHANNELS], dtype=int))
        if channels is not None:
            check_channels(path, count, channels, f"axes {series.axes}")
        stored = path.stat().st_size if page.compression == tifffile.COMPRESSION.NONE else series.nbytes
        check_claim(path, (count, *shape), page.dtype.itemsize, stored, packed=False)
        values = _ordered(series.asarray(maxworkers=1), series.axes, shape)
    return Image(values, Geometry.of_pixels(values.shape[1:]), Source("tiff", (path,)))


def _ordered(array: NDArray[Any], axes: str, shape: tuple[int, ...]) -> NDArray[Any]:
    rank = {**dict.fromkeys(_CHANNELS, 0), **dict.fromkeys(_SLICES, 1), "Y": 2, "X": 3}
    order = sorted(range(len(axes)), key=lambda i: rank.get(axes[i], 1))
    return np.ascontiguousarray(array.transpose(order).reshape(-1, *shape))


def write(path: Path, labels: NDArray[Any]) -> None:
    """Label map ``(D, H, W)`` as a stack, packed."""
    with whole(path) as part:
        tifffile.imwrite(part, labels, photometric="minisblack", compression="zlib", metadata={"axes": "ZYX"})
