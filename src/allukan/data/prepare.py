"""Decode a dataset once, into one block of bytes."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from allukan.data.dataset import Case, Dataset
from allukan.data.images import fit_channels, read_image, read_masks, resize_image, resize_masks
from allukan.errors import UserError


@dataclass(frozen=True)
class Prepared:
    """Cases at one size.

    Attributes:
        ids: of the cases.
        images: uint8 ``(N, C, H, W)``.
        masks: uint8 ``(N, K, H, W)`` of 0 and 1.
        shapes: original ``(H, W)`` of every case.
    """

    ids: tuple[str, ...]
    images: Tensor
    masks: Tensor
    shapes: tuple[tuple[int, int], ...]


def prepare(dataset: Dataset, cases: Sequence[Case], size: tuple[int, int], channels: int | None = None) -> Prepared:
    """Read ``cases`` in threads and bring them to ``size`` (images antialiased, masks by the nearest pixel).

    ``channels`` defaults to ``count_channels``. Raises ``UserError`` for the first file that is not usable and for a mask whose
    size is not that of its image.
    """
    wanted = channels or count_channels(dataset)

    def load(case: Case) -> tuple[NDArray[np.uint8], NDArray[np.uint8], tuple[int, int]]:
        image, masks = read_case(case, dataset)
        scaled = resize_image(fit_channels(image, wanted), size)
        return np.moveaxis(scaled, -1, 0), resize_masks(masks, size), image.shape[:2]

    with ThreadPoolExecutor() as pool:
        images, masks, shapes = zip(*pool.map(load, cases), strict=True)
    ids = tuple(case.id for case in cases)
    return Prepared(ids, torch.from_numpy(np.stack(images)), torch.from_numpy(np.stack(masks)), shapes)


def read_case(case: Case, dataset: Dataset) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Image ``(H, W, C)`` and masks ``(K, H, W)`` as they are; ``UserError`` when their sizes differ."""
    image, masks = read_image(case.images), read_masks(case, dataset)
    if image.shape[:2] != masks.shape[1:]:
        of_image, of_mask = ("×".join(map(str, shape)) for shape in (image.shape[:2], masks.shape[1:]))
        raise UserError(f"mask {case.masks[0][0]} is {of_mask} pixels but its image is {of_image}: they must agree in size.")
    return image, masks


def count_channels(dataset: Dataset) -> int:
    """Channels that fit every image: 3 as soon as one is in colour, 1 for grey; files stored as RGB but grey count as colour.

    Looks at up to 32 images spread over the set; ``UserError`` for one that is not readable.
    """
    step = max(1, len(dataset.cases) // 32)
    with ThreadPoolExecutor() as pool:
        return max(pool.map(lambda case: int(read_image(case.images).shape[2]), dataset.cases[::step]))
