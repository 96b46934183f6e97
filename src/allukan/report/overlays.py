"""Masks drawn as contours over their image: of every class at the size of the image, or of truth and prediction for a page."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy.ndimage import binary_dilation, binary_erosion

from allukan.report import plots
from allukan.report.palette import CONTOURS, PREDICTION, TRUTH, pick, rgb


def draw_contours(image: NDArray[np.uint8], masks: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Image ``(H, W[, C])`` and masks ``(K, H, W)`` → RGB ``(H, W, 3)`` with an outline a class, about 1/250 of the image wide.

    Pixel by pixel, because a figure of an image of 4000 × 3000 takes matplotlib six seconds and over a gigabyte.

    >>> draw_contours(np.zeros((8, 8, 1), np.uint8), np.ones((1, 8, 8), bool))[0, 0].tolist()
    [230, 159, 0]
    """
    canvas = _as_rgb(image)
    width = max(1, round(max(image.shape[:2]) / 250))
    for k, mask in enumerate(masks):
        edge = mask & ~binary_erosion(mask)
        canvas[binary_dilation(edge, iterations=width - 1) if width > 1 else edge] = rgb(pick(CONTOURS, k))
    return canvas


def contour_figure(image: NDArray[np.uint8], truth: NDArray[np.bool_], prediction: NDArray[np.bool_]) -> str:
    """Image ``(H, W[, C])`` with smooth outlines of truth and, dashed, prediction ``(K, H, W)``; a data URI of 440 pixels."""
    height, width = image.shape[:2]
    figure = Figure(figsize=(4, 4 * float(np.clip(height / width, 0.1, 2.5))), dpi=110)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.imshow(_as_rgb(image))
    for masks, colour, style in ((truth, TRUTH, "solid"), (prediction, PREDICTION, "dashed")):
        for mask in masks:
            _trace(axes, mask, colors=[colour], linestyles=style)
    axes.set(xlim=(-0.5, width - 0.5), ylim=(height - 0.5, -0.5))
    axes.set_axis_off()
    return plots.png(figure)


def _trace(axes: Axes, mask: NDArray[np.bool_], **style: Any) -> None:
    """The outline of one mask, closed along the border of the image where the mask touches it."""
    if mask.any():
        x, y = (np.arange(-1, size + 1).clip(-0.5, size - 0.5) for size in mask.shape[::-1])
        axes.contour(x, y, np.pad(mask, 1), levels=[0.5], linewidths=2, **style)


def _as_rgb(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A copy to look at: the first three channels, or the first one as grey where there are fewer."""
    channels = image.reshape(*image.shape[:2], -1)
    return np.repeat(channels[..., :1], 3, axis=2) if channels.shape[2] < 3 else channels[..., :3].copy()
