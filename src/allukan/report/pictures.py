"""Cases as pictures inside the page: the image small and compressed, truth and prediction as outlines over it."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.image import imsave
from numpy.typing import NDArray

from allukan.report.contours import FINE, outline

SIDE = 256  # pixels of the longer side of a picture, to which the caller scales images and masks
_QUALITY = 55


@dataclass(frozen=True)
class Slice:
    """An image as a data URI, and the outlines over it as data of SVG paths: ``missed`` and ``extra`` are where they differ."""

    image: str
    truth: tuple[str, ...]
    prediction: tuple[str, ...]
    missed: str
    extra: str


@dataclass(frozen=True)
class Plane:
    """Slices of one size, one at a time to be looked at; ``width`` and ``height`` in the unit of their paths.

    ``stretch`` is how much higher than wide a pixel is.
    """

    name: str
    slices: tuple[Slice, ...]
    width: int
    height: int
    stretch: float = 1.0


@dataclass(frozen=True)
class Picture:
    """One case: a plane of one slice for a picture, three planes of several slices for a volume."""

    planes: tuple[Plane, ...]

    @property
    def size(self) -> int:
        """Bytes that it adds to a page, nearly."""
        slices = [found for plane in self.planes for found in plane.slices]
        return sum(len("".join((s.image, *s.truth, *s.prediction, s.missed, s.extra))) + 400 + 100 * len(s.truth) for s in slices)


def picture(image: NDArray[np.uint8], truth: NDArray[np.bool_], prediction: NDArray[np.bool_]) -> Picture:
    """Of image ``(H, W[, C])`` and masks ``(K, H, W)``."""
    return Picture((plane("", [(image, truth, prediction)]),))


def plane(
    name: str, slices: Sequence[tuple[NDArray[np.uint8], NDArray[np.bool_], NDArray[np.bool_]]], stretch: float = 1.0
) -> Plane:
    """Of slices of one size, each image ``(H, W[, C])``, truth and prediction ``(K, H, W)``; pixels are ``stretch`` × as high."""
    height, width = slices[0][0].shape[:2]
    return Plane(name, tuple(_slice(*found) for found in slices), FINE * width, FINE * height, stretch)


def _slice(image: NDArray[np.uint8], truth: NDArray[np.bool_], prediction: NDArray[np.bool_]) -> Slice:
    missed, extra = (outline(np.asarray(found.any(0))) for found in (truth & ~prediction, prediction & ~truth))
    return Slice(_webp(as_rgb(image)), tuple(map(outline, truth)), tuple(map(outline, prediction)), missed, extra)


def _webp(image: NDArray[np.uint8]) -> str:
    buffer = io.BytesIO()
    imsave(buffer, image, format="webp", pil_kwargs={"quality": _QUALITY, "method": 4})
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode()


def as_rgb(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A copy to look at: the first three channels, or the first one as grey where there are fewer."""
    channels = image.reshape(*image.shape[:2], -1)
    return np.repeat(channels[..., :1], 3, axis=2) if channels.shape[2] < 3 else channels[..., :3].copy()
