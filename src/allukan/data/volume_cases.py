"""Cases of volumes: read with their masks, checked against each other, and brought to where a network takes them."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from allukan.data import volumes
from allukan.data.dataset import Case, Dataset
from allukan.data.intensities import Intensity, standardise
from allukan.data.masks import read_masks
from allukan.data.volumes import CANONICAL, Image
from allukan.errors import UserError


@dataclass(frozen=True)
class Volumes:
    """Cases as a network takes them, each of its own size.

    Attributes:
        ids: of the cases.
        images: float32 ``(C, D, H, W)`` as ``as_input`` gives them.
        masks: uint8 ``(K, D, H, W)`` of 0, 1 and ``IGNORED``, on their grids.
    """

    ids: tuple[str, ...]
    images: tuple[Image, ...]
    masks: tuple[Tensor, ...]


def read_volume(paths: Sequence[Path], channels: Sequence[int] = ()) -> Image:
    """The files of one volume as ``(C, D, H, W)`` on the grid of the first, of which ``channels`` brings every one so many.

    Raises ``UserError`` as ``volumes.read_image`` does; for pictures, files that do not say the size of their voxels, files that
    do not lie on one grid, and NaN or infinity.
    """
    wanted = tuple(channels) or (None,) * len(paths)
    images = [volumes.read_image(path, count) for path, count in zip(paths, wanted, strict=True)]
    for path, image in zip(paths, images, strict=True):
        check_volume(image, path)
        if how := images[0].geometry.differs(image.geometry):
            raise UserError(f"{path} does not lie on the grid of {paths[0]}, another file of the same image: {how}.")
    first = images[0]
    return first if len(images) == 1 else replace(first, array=np.concatenate([image.array for image in images]))


def check_volume(image: Image, path: object) -> None:
    """Raises ``UserError`` about ``path`` for a picture, for voxels of no size in mm, and for NaN or infinity."""
    if len(image.geometry.shape) != 3:
        raise UserError(f"{path} is a picture of {_times(image.geometry.shape)} pixels, and a volume is expected.")
    if not image.geometry.in_mm:
        raise UserError(f"{path} does not say the size of its voxels in mm: save it as NIfTI, or with its spacing.")
    if image.array.dtype.kind == "f" and not np.isfinite(image.array).all():
        raise UserError(f"{path} holds NaN or infinite values: repair or remove it.")


def read_volume_case(case: Case, dataset: Dataset, channels: Sequence[int] = ()) -> tuple[Image, NDArray[np.uint8]]:
    """Image ``(C, D, H, W)`` and masks ``(K, D, H, W)`` in the geometry of the file; ``UserError`` where they do not fit."""
    image = read_volume(case.images, channels)
    return image, read_masks(case, dataset, image)


def as_input(image: Image, intensities: Sequence[Intensity] = ()) -> Image:
    """Towards head, back and left ("SPL"), float32, with intensities as ``standardise`` has them."""
    turned = image.reoriented()
    values: NDArray[np.floating] = turned.array.astype(np.float64 if _offset(turned.array) else np.float32)
    standardise(values, intensities)
    return replace(turned, array=values.astype(np.float32, copy=False))


def _offset(values: NDArray[Any]) -> bool:
    """Whether float32 would round what distinguishes voxels: numbers of 32 bits and more, far from 0 and close to each other."""
    if values.dtype.itemsize < 4 or values.dtype == np.float32:
        return False
    low, high = float(values.min()), float(values.max())
    return max(-low, high) > 1000 * (high - low) > 0


def prepare_volumes(
    dataset: Dataset,
    cases: Sequence[Case],
    channels: Sequence[int],
    spacing_mm: Sequence[float],
    intensities: Sequence[Intensity] = (),
    cache: Path | None = None,
) -> Volumes:
    """Read ``cases`` in threads, as ``as_input`` has them, with voxels of ``spacing_mm``.

    Images are interpolated linearly, masks have the nearest voxel. With ``cache``, a folder, they lie in files there that memory
    maps, so that they need not fit into it. Raises ``UserError`` without cases, for the first file that is not usable and for a
    folder without room.
    """
    if not cases:
        raise UserError(f"no images of {dataset.root} to prepare: the selection is empty.")

    def load(case: Case) -> tuple[Image, Tensor]:
        image, masks = read_volume_case(case, dataset, channels)
        turned = image.geometry.axes_to(CANONICAL[3]).apply(masks)
        scaled = resampled(as_input(image, intensities), spacing_mm)
        resized = volumes.resize_labels(np.ascontiguousarray(turned), scaled.geometry.shape)
        return replace(scaled, array=_mapped(scaled.array, cache)), torch.from_numpy(_mapped(resized, cache))

    with ThreadPoolExecutor() as pool:
        images, masks = zip(*pool.map(load, cases), strict=True)
    return Volumes(tuple(case.id for case in cases), images, masks)


def _mapped(array: NDArray[Any], folder: Path | None) -> NDArray[Any]:
    """The same in a file of ``folder`` that has no name and goes with the process; without a folder as it is."""
    if folder is None:
        return array
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with TemporaryFile("w+b", dir=folder) as file:
            array.tofile(file)  # writes that fail are told, those of a map end the process
            file.flush()
            return np.memmap(file, array.dtype, "c", shape=array.shape)
    except OSError as error:
        raise UserError(f"{folder} cannot hold the volumes ({error.strerror or error}): give another --cache.") from None


def resampled(image: Image, spacing_mm: Sequence[float]) -> Image:
    """As ``volumes.resample``; an image that has such voxels stays as it is."""
    return image if image.geometry.shape_at(spacing_mm) == image.geometry.shape else volumes.resample(image, spacing_mm)


def _times(values: Sequence[Any]) -> str:
    return "×".join(map(str, values))
