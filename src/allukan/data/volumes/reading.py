"""Files to images: one reader for each kind, loaded when it is needed (SimpleITK and pydicom take a second)."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from allukan.data import masks
from allukan.data.decode import damage_told, decode
from allukan.data.pixels import turned
from allukan.data.volumes.geometry import Geometry
from allukan.data.volumes.image import Image, Source
from allukan.data.volumes.kinds import is_volume, kind_of
from allukan.data.volumes.limits import check_channels
from allukan.errors import UserError


def read_image(path: str | Path, channels: int | None = None, series: str | None = None) -> Image:
    """Any file that is read, or a folder with the slices of one DICOM series, as ``(C, *S)`` with its geometry.

    Values are as stored, with slope and intercept applied; palettes and CMYK become RGB, and what is stored with 0 as white is
    turned. A file of several volumes is read where ``channels`` says that they are the channels of one image. ``series`` is the
    SeriesInstanceUID of one of several in a folder. Raises ``UserError``, one sentence, for all that is not read
    (``docs/formats.md``): nothing is guessed.
    """
    path = Path(path)
    with damage_told(path):
        kind = kind_of(path)
        if kind == "series":
            from allukan.data.volumes import dicom

            return _with_channels(dicom.read_folder(path, series), path, channels)
        return _read(path, kind, channels)


def _read(path: Path, kind: str, channels: int | None) -> Image:
    if kind == "nifti":
        from allukan.data.volumes import nifti

        return nifti.read(path, channels)
    if kind in ("nrrd", "meta"):
        from allukan.data.volumes import itk

        return itk.read(path, kind, channels)
    if kind == "dicom":
        from allukan.data.volumes import dicom

        return _with_channels(dicom.read_file(path), path, channels)
    if kind == "tiff":
        from allukan.data.volumes import stack

        if stack.is_stack(path):
            return stack.read(path, channels)
    return _with_channels(_picture(path), path, channels)


def _with_channels(image: Image, path: Path, channels: int | None) -> Image:
    if channels is not None:
        check_channels(path, len(image.array), channels, "")
    return image


def _picture(path: Path) -> Image:
    values = np.moveaxis(turned(decode(path)), -1, 0)
    return Image(np.ascontiguousarray(values), Geometry.of_pixels(values.shape[1:]), Source("picture", (path,)))


def read_labels(path: str | Path, like: Image | None = None) -> Image:
    """A label map ``(1, *S)`` in the smallest unsigned type; with ``like``, of the image that it belongs to.

    Raises ``UserError`` for fractions, numbers below 0, NaN, more than one channel, JPEG, and where the map does not lie on the
    grid of ``like``: other shape, or corners further off than a tenth of the smallest spacing.
    """
    path = Path(path)
    if path.is_dir():
        raise UserError(f"{path} is a folder: give the label map as one file.")
    with damage_told(path):
        picture = not is_volume(path) and kind_of(path) in ("picture", "tiff")
    image = _label_picture(path) if picture else read_image(path)
    if len(image.array) != 1:
        raise UserError(f"label map {path} has {len(image.array)} channels: store the number of the class, one a voxel.")
    if like is not None and (how := like.geometry.differs(image.geometry)):
        of = f" {like.source.paths[0]}" if like.source.paths else ""
        raise UserError(f"label map {path} does not lie on its image{of}: {how}.")
    return replace(image, array=as_labels(image.array, path))


def _label_picture(path: Path) -> Image:
    labels = masks.read_labels(path)
    return Image(labels[None], Geometry.of_pixels(labels.shape), Source("picture", (path,)))


def as_labels(values: NDArray, name: object) -> NDArray[np.unsignedinteger]:
    """Whole numbers from 0 in the smallest unsigned type that holds them.

    >>> as_labels(np.array([0.0, 300.0]), "x").dtype
    dtype('uint16')
    """
    low, high = values.min(), values.max()
    if (
        not (np.isfinite(low) and np.isfinite(high))
        or low < 0
        or (values.dtype.kind == "f" and (values != np.floor(values)).any())
    ):
        raise UserError(f"label map {name} must hold whole numbers from 0 upwards: it holds {_odd(values)}.")
    if high > np.iinfo(np.uint32).max:
        raise UserError(f"label map {name} holds {high}, and numbers up to {np.iinfo(np.uint32).max} are read.")
    return values.astype(np.min_scalar_type(int(high)))


def _odd(values: NDArray) -> str:
    odd = values[~((values >= 0) & (values == np.floor(values)) & np.isfinite(values))]
    return f"{odd.flat[0]:g}"
