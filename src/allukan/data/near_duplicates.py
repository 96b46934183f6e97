"""Images that are nearly the same: they must not end up on both sides of a split."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from allukan.data.dataset import Case, Dataset
from allukan.data.images import fit_channels, read_image, resize_image

_SIDE = 24  # pixels of the thumbnails
THRESHOLD = 0.98  # correlation of thumbnails from which two images count as the same


def near_duplicates(dataset: Dataset, threshold: float = THRESHOLD) -> list[tuple[str, str, float]]:
    """Pairs of ids whose grey thumbnails correlate at least by ``threshold``, with that correlation, the closest first."""
    with ThreadPoolExecutor() as pool:
        thumbnails = np.stack(list(pool.map(_thumbnail, dataset.cases)))
    similar = thumbnails @ thumbnails.T
    pairs = np.argwhere(np.triu(similar >= threshold, k=1))
    ids = dataset.ids
    return sorted(((ids[i], ids[j], float(similar[i, j])) for i, j in pairs), key=lambda pair: -pair[2])


def _thumbnail(case: Case) -> NDArray[np.float64]:
    """Of unit length and zero mean, so that a product of two is their correlation."""
    image = read_image(case.images)
    grey = fit_channels(image, 1) if image.shape[2] in (1, 3) else image.mean(2, keepdims=True).astype(np.uint8)
    values = resize_image(grey, (_SIDE, _SIDE)).astype(np.float64).ravel()
    values -= values.mean()
    length = float(np.linalg.norm(values))
    return values / length if length > 0 else values
