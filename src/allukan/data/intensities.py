"""What makes intensities comparable that do not fit into a byte: those of volumes, and of pictures of more than 8 bits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

_ROUNDING = 1e-12  # of the mean, below which a deviation in float64 is none
Intensity = tuple[float, float, float, float] | None  # lowest, highest, mean, deviation; None: by the image itself


def standardise(values: NDArray[np.floating], intensities: Sequence[Intensity] = ()) -> None:
    """Every channel of ``(C, *S)`` to mean 0 and deviation 1 over the whole image, in place.

    A channel for which ``intensities`` have four numbers is clipped to the first two, then minus the third, over the fourth.

    >>> values = np.array([[[30000.0, 30002.0]], [[-50.0, 300.0]]])
    >>> standardise(values, [None, (-100, 200, 50, 10)])
    >>> values.tolist()
    [[[-1.0, 1.0]], [[-10.0, 15.0]]]
    """
    for channel, how in zip(values, tuple(intensities) or (None,) * len(values), strict=True):
        _standardise(channel, how)


def _standardise(values: NDArray[np.floating], how: Intensity) -> None:
    kind = values.dtype.type
    if how:
        low, high, mean, std = how
        np.clip(values, low, high, out=values)
    else:
        mean = values.mean(dtype=np.float64)
    values -= kind(mean)
    if not how:
        std = np.sqrt(np.square(values).mean(dtype=np.float64))
        std = std if std > _ROUNDING * abs(mean) else 1.0  # of a constant image nothing is left
    values /= kind(std)


def standardised(picture: NDArray[Any], intensities: Sequence[Intensity] = ()) -> NDArray[np.float32]:
    """``(H, W, C)`` in any precision → float32 of the same shape, as ``standardise`` has it.

    Computed in float64: of 32 bits, a contrast of a few levels would be lost in float32 before the mean is taken off.
    """
    values = np.moveaxis(picture.astype(np.float64), -1, 0)
    standardise(values, intensities)
    return np.moveaxis(values, 0, -1).astype(np.float32)
