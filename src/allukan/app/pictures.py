"""An image and what was found in it as pictures to look at: slices of one size, with contours."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from allukan.data import as_bytes, resize_image
from allukan.data.volumes import CANONICAL, Axes, Image
from allukan.inference.picturing import as_grey, fitted_masks
from allukan.report import as_rgb, draw_contours

SIDES = 512, 1024  # the longer side of a picture on the page, in pixels: smaller ones are enlarged, larger ones reduced
Bytes = NDArray[np.uint8]
Masks = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Scene:
    """An image as slices ``(D, H, W, C)``; a picture has one.

    Volumes lie as radiologists see them: axial, the patient's front up and left side to the right, slices from the feet on.

    Attributes:
        slices: bytes.
        pixel: height and width, in mm or in pixels.
        turn: of the axes of the file, None of pictures.
    """

    slices: Bytes
    pixel: tuple[float, float]
    turn: Axes | None = None

    @classmethod
    def of(cls, image: NDArray | Image) -> Scene:
        """Of a picture ``(H, W, C)`` or a volume, of which the first channel is shown."""
        if not isinstance(image, Image):
            return cls(as_bytes(image)[None], (1, 1))
        turn = image.geometry.axes_to(CANONICAL[3])
        turned = image.moved(turn)
        return cls(as_grey(turned.array[0])[..., None], (turned.spacing_mm[1], turned.spacing_mm[2]), turn)

    def arranged(self, array: NDArray) -> NDArray:
        """``(K, *S)`` of the file → ``(K, D, H, W)`` of the slices."""
        return array[:, None] if self.turn is None else self.turn.apply(array)

    def fullest(self, masks: Masks) -> int:
        """The slice with most of ``masks``; the middle one where nothing was found."""
        filled = masks.sum((0, 2, 3))
        return int(filled.argmax()) if filled.any() else len(self.slices) // 2

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of its pictures, in pixels of the page."""
        height, width = (n * mm for n, mm in zip(self.slices.shape[1:3], self.pixel, strict=True))
        side = min(max(SIDES[0], *self.slices.shape[1:3]), SIDES[1])
        return max(1, round(side * height / max(height, width))), max(1, round(side * width / max(height, width)))

    def bare(self, place: int) -> Bytes:
        """Slice ``place`` as RGB, nothing drawn on it."""
        return as_rgb(resize_image(self.slices[place], self.size))

    def drawn(self, place: int, masks: Masks) -> Bytes:
        """The same with the contours of ``masks``, ``(K, D, H, W)``."""
        return draw_contours(self.bare(place), fitted_masks(masks[:, place], self.size))

    def mapped(self, place: int, probability: NDArray[np.floating], mask: Masks) -> Bytes:
        """Probability ``(D, H, W)`` from black, 0, to white, 1, with the contour of ``mask``, of the same shape."""
        grey = np.asarray((probability[place].astype(np.float32) * 255).round(), np.uint8)
        return draw_contours(resize_image(grey[..., None], self.size), fitted_masks(mask[None, place], self.size))
