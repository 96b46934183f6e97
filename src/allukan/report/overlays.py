"""Masks drawn as contours over their image."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_dilation, binary_erosion

# Okabe and Ito's colours, told apart by colour-blind readers too
PALETTE = ((230, 159, 0), (86, 180, 233), (0, 158, 115), (240, 228, 66), (0, 114, 178), (213, 94, 0), (204, 121, 167))


def draw_contours(image: NDArray[np.uint8], masks: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Image ``(H, W, C)`` and masks ``(K, H, W)`` → RGB ``(H, W, 3)`` with an outline a class, about 1/250 of the image wide.

    >>> draw_contours(np.zeros((8, 8, 1), np.uint8), np.ones((1, 8, 8), bool))[0, 0].tolist()
    [230, 159, 0]
    """
    canvas = np.repeat(image[..., :1], 3, axis=2) if image.shape[2] < 3 else image[..., :3].copy()
    width = max(1, round(max(image.shape[:2]) / 250))
    for k, mask in enumerate(masks):
        edge = mask & ~binary_erosion(mask)
        canvas[binary_dilation(edge, iterations=width - 1) if width > 1 else edge] = PALETTE[k % len(PALETTE)]
    return canvas
