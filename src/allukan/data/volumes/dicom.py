"""DICOM files and folders to images."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.pixels import apply_color_lut

from allukan.data.volumes import dicom_codecs, dicom_series
from allukan.data.volumes.dicom_header import described, frame_count, frames_of, header_of, pixel_size, thickness_mm
from allukan.data.volumes.geometry import Geometry
from allukan.data.volumes.image import Image, Source
from allukan.data.volumes.slices import grid
from allukan.errors import UserError

_WHOLE = (np.uint8, np.int8, np.uint16, np.int16, np.uint32, np.int32, np.int64)


def read_file(path: Path) -> Image:
    """One file: ``(C, H, W)`` where it says no place, ``(C, 1, H, W)`` of one slice, ``(C, D, H, W)`` of many frames.

    Raises ``UserError`` for files without an image, for frames without a place (a film), and as ``slices.grid`` does.
    """
    header = header_of(path)
    frames = frames_of(header, path)
    if not frames:
        if (count := frame_count(header, path)) > 1:
            raise UserError(f"{path} holds {count} frames that do not say where they lie (a film?): save one of them as a file.")
        values = pixels(path)[:, 0]
        return Image(values, Geometry.of_pixels(values.shape[1:], pixel_size(header)), Source("dicom", (path,)))
    order, geometry = grid(frames, thickness_mm(header), (header.Rows, header.Columns), path)
    return Image(np.ascontiguousarray(pixels(path)[:, order]), geometry, Source("dicom", (path,)))


def read_folder(folder: Path, series: str | None = None) -> Image:
    """The slices of one series in their order along the patient, ``(C, D, H, W)``; files that are no DICOM do not count.

    Raises ``UserError`` where there is no series or more than one, and as ``slices.grid`` does.
    """
    headers = dicom_series.choose(folder, series)
    paths = list(headers)
    if len(paths) == 1:
        return read_file(paths[0])
    frames = []
    for path, header in headers.items():
        found = frames_of(header, path)
        if len(found) != 1:
            raise UserError(
                f"{path} in a series of {len(paths)} files has {len(found)} frames with a place: expected is one a file."
            )
        frames += found
    first = headers[paths[0]]
    for path, header in headers.items():
        if (header.Rows, header.Columns, header.SamplesPerPixel) != (first.Rows, first.Columns, first.SamplesPerPixel):
            sizes = f"{path} has {header.Rows}×{header.Columns} pixels and {paths[0]} {first.Rows}×{first.Columns}"
            raise UserError(f"{sizes}: they are no slices of one volume.")
    order, geometry = grid(frames, thickness_mm(first), (first.Rows, first.Columns), folder)
    ordered = [frames[i].path for i in order]
    values = np.concatenate([pixels(path) for path in ordered], axis=1)  # of different types: in one that holds all
    return Image(values, geometry, Source("dicom", tuple(ordered)))


def pixels(path: Path) -> NDArray[Any]:
    """``(C, frames, H, W)``: values with slope and intercept; white above black; RGB for palettes and YBR."""
    dataset = pydicom.dcmread(path, force=True)
    stored = dicom_codecs.decode(dataset)
    if dataset.PhotometricInterpretation == "PALETTE COLOR":
        return np.moveaxis(apply_color_lut(stored, dataset), -1, 0)
    if stored.ndim == 4:
        return np.moveaxis(stored, -1, 0)
    low, high = bounds(dataset)
    if dataset.PhotometricInterpretation == "MONOCHROME1":
        stored = (low + high) - stored
    scales = [scale(dataset, number) for number in range(len(stored))]
    if all(scale == (1, 0) for scale in scales):
        return stored.astype(stored.dtype.newbyteorder("="))[None]
    dtype = type_for(scales, low, high)
    scaled = [frame.astype(dtype) * dtype.type(a) + dtype.type(b) for frame, (a, b) in zip(stored, scales, strict=True)]
    return np.stack(scaled)[None]


def bounds(dataset: Dataset) -> tuple[int, int]:
    """Lowest and highest value that the bits stored can hold, before slope and intercept."""
    bits, signed = int(dataset.BitsStored), int(dataset.PixelRepresentation)
    return (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)


def scale(dataset: Dataset, number: int) -> tuple[float, float]:
    """Slope and intercept of a frame."""
    pair = [described(dataset, number, "PixelValueTransformationSequence", f"Rescale{name}") for name in ("Slope", "Intercept")]
    slope, intercept = (default if value is None else float(value) for value, default in zip(pair, (1.0, 0.0), strict=True))
    return slope or 1.0, intercept  # a slope of 0 is one that was not filled in


def type_for(scales: Sequence[tuple[float, float]], low: int, high: int) -> np.dtype[Any]:
    """The smallest type that holds every value that the bits of the file can give."""
    ends = [value * slope + intercept for slope, intercept in scales for value in (low, high)]
    if all(value.is_integer() for scale in scales for value in scale):
        ends += [value for scale in scales for value in scale]  # what values are multiplied with, below 0 in some
        return next(np.dtype(t) for t in _WHOLE if np.iinfo(t).min <= min(ends) and max(ends) <= np.iinfo(t).max)
    return np.dtype(np.float32 if high <= 2**16 else np.float64)
