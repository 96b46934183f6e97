"""Decode a dataset once, into one block: of bytes, or of floats where a byte does not hold the values."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from allukan.data.channels import file_channels
from allukan.data.dataset import Case, Dataset
from allukan.data.images import read_image, read_values, resize_image, resize_masks, scaled_note
from allukan.data.intensities import Intensity, standardised
from allukan.data.masks import read_masks
from allukan.errors import UserError

_log = logging.getLogger("allukan")


@dataclass(frozen=True)
class Prepared:
    """Cases at one size.

    Attributes:
        ids: of the cases.
        images: uint8 ``(N, C, H, W)``; float32 where values were kept, as ``standardised`` has them.
        masks: uint8 ``(N, K, H, W)`` of 0, 1 and ``IGNORED``.
        shapes: original ``(H, W)`` of every case.
    """

    ids: tuple[str, ...]
    images: Tensor
    masks: Tensor
    shapes: tuple[tuple[int, int], ...]


def prepare(
    dataset: Dataset,
    cases: Sequence[Case],
    size: tuple[int, ...] | None = None,
    channels: Sequence[int] = (),
    intensities: Sequence[Intensity] | None = None,
) -> Prepared:
    """Read ``cases`` in threads and bring them to ``size`` (height, width): images antialiased, masks by the nearest pixel.

    Without ``size`` nothing is resized, and all must have one size. ``channels`` is how many every file of an image brings,
    ``file_channels`` unless given. With ``intensities`` (empty: mean 0 and deviation 1) images keep their values, and each is
    normalised as it is in the file before it is resized; without, those of more than 8 bits are scaled to bytes, which the log
    says. Raises ``UserError`` without cases, for the first file that is not usable and for a mask whose size is not that of its
    image.
    """
    if not cases:
        raise UserError(f"no images of {dataset.root} to prepare: the selection is empty.")
    wanted = tuple(channels) or file_channels(dataset)
    keep = intensities is not None
    if not keep and (note := scaled_note([case.images for case in cases])):
        _log.warning(note)

    def load(case: Case) -> tuple[NDArray[Any], NDArray[np.uint8], tuple[int, int]]:
        image, masks = read_case(case, dataset, wanted, keep)
        image = image if intensities is None else standardised(image, intensities)
        if size is None:
            return np.moveaxis(image, -1, 0), masks, image.shape[:2]
        return np.moveaxis(resize_image(image, size), -1, 0), resize_masks(masks, size), image.shape[:2]

    with ThreadPoolExecutor() as pool:
        images, masks, shapes = zip(*pool.map(load, cases), strict=True)
    ids = tuple(case.id for case in cases)
    for name, shape in zip(ids, shapes, strict=True):
        if size is None and shape != shapes[0]:
            raise UserError(f"{name!r} is {_text(shape)} pixels but {ids[0]!r} is {_text(shapes[0])}: give a size for all.")
    return Prepared(ids, torch.from_numpy(np.stack(images)), torch.from_numpy(np.stack(masks)), shapes)


def read_case(
    case: Case, dataset: Dataset, channels: Sequence[int] = (), keep: bool = False
) -> tuple[NDArray[Any], NDArray[np.uint8]]:
    """Image ``(H, W, C)`` and masks ``(K, H, W)``; ``UserError`` when their sizes differ.

    The image is of bytes, as in ``read_image``, or with ``keep`` of the values of the file, as in ``read_values``.
    """
    image, masks = (read_values if keep else read_image)(case.images, channels), read_masks(case, dataset)
    if image.shape[:2] != masks.shape[1:]:
        of_image, of_mask = _text(image.shape[:2]), _text(masks.shape[1:])
        raise UserError(f"mask {case.masks[0][0]} is {of_mask} pixels but its image is {of_image}: they must agree in size.")
    return image, masks


def _text(shape: Sequence[int]) -> str:
    return "×".join(map(str, shape))
