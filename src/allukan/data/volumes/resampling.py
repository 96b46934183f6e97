"""Other voxel sizes, and the way back for label maps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from allukan.data.volumes.image import Image

_LINEAR = {2: "bilinear", 3: "trilinear"}


def resample(image: Image, spacing_mm: Sequence[float]) -> Image:
    """The image at the nearest spacing that divides its box into whole voxels, float32, interpolated linearly.

    The faces of the box stay where they are. Shrinking to less than half takes no mean: smooth first where that matters.
    """
    shape = image.geometry.shape_at(spacing_mm)
    values = torch.from_numpy(np.ascontiguousarray(image.array, np.float32))[None]
    resized = F.interpolate(values, shape, mode=_LINEAR[len(shape)], align_corners=False)[0]
    return Image(resized.numpy(), image.geometry.resized(shape), image.source.elsewhere())


def resize_labels(labels: NDArray[Any], shape: Sequence[int]) -> NDArray[Any]:
    """``(…, *S)`` → ``(…, *shape)``: every voxel takes the label of the voxel that its centre lies in; no label is made up.

    >>> resize_labels(np.array([[1, 2], [3, 4]]), (2, 4)).tolist()
    [[1, 1, 2, 2], [3, 3, 4, 4]]
    """
    first = labels.ndim - len(shape)
    for axis, (new, old) in enumerate(zip(shape, labels.shape[first:], strict=True), first):
        labels = labels.take((np.arange(new) * 2 + 1) * old // (2 * new), axis)  # whole numbers: no rounding
    return labels
