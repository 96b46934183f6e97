"""NRRD and MetaImage with SimpleITK, which reads and writes both with their geometry."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from allukan.data.volumes.geometry import Geometry
from allukan.data.volumes.image import Image, Source
from allukan.data.volumes.itk_header import Header
from allukan.data.volumes.limits import check_channels, check_claim
from allukan.errors import UserError
from allukan.files import whole

_IO = {"nrrd": "NrrdImageIO", "meta": "MetaImageIO"}
_FOLLOWS = (".nhdr", ".mhd")  # headers whose voxels are in files of their own
_SPACES = ("left-posterior-superior", "right-anterior-superior", "left-anterior-superior", "LPS", "RAS", "LAS")
_ROUNDED = 1e-5  # by which a unit vector may be off, as headers write it
_PICTURE = 3  # components that are colours and not a series
_log = logging.getLogger("allukan")
sitk.ProcessObject.SetGlobalWarningDisplay(False)  # errors become sentences, and ITK prints the rest to stderr


def read(path: Path, kind: str, channels: int | None = None) -> Image:
    """An NRRD or MetaImage ("nrrd", "meta"), their voxels in the file or beside it.

    Two or three dimensions; a fourth one, or components other than colours, only where ``channels`` says how many.

    Raises ``UserError`` for anything else, complex numbers, units other than mm, and headers that claim more than the files
    hold; ``ValueError`` and others for damage. An NRRD without a space is read as LPS, which the log says.
    """
    header = Header(path, kind)
    if header.units:
        raise UserError(f"{path} measures in {', '.join(sorted(header.units))}, and mm are expected: mend its header.")
    with _in_short():
        image, shape, volumes = _image(header, kind, channels)
    values = sitk.GetArrayFromImage(image)
    if image.GetNumberOfComponentsPerPixel() > 1:
        values = np.moveaxis(values, -1, 0)
    if kind == "nrrd" and len(shape) == 3 and header.fields.get("space", "") not in _SPACES:
        _log.warning(f"{path} does not say how the patient lies (it has no space): its axes are taken as LPS.")
    geometry = replace(_geometry(image, shape, path), in_mm=header.in_mm)
    return Image(np.ascontiguousarray(values.reshape(volumes, *shape)), geometry, Source(kind, (path,)))


def _image(header: Header, kind: str, channels: int | None) -> tuple[sitk.Image, tuple[int, ...], int]:
    """As ITK reads it, (D, H, W) or (H, W), and how many volumes."""
    path = header.path
    reader = sitk.ImageFileReader()
    reader.SetImageIO(_IO[kind])
    reader.SetFileName(str(path))
    reader.ReadImageInformation()
    size, components = reader.GetSize()[::-1], reader.GetNumberOfComponents()
    if "complex" in sitk.GetPixelIDValueAsString(reader.GetPixelID()):
        raise UserError(f"{path} holds complex numbers, which are not read: save their magnitude.")
    if len(size) not in (2, 3, 4):
        raise UserError(f"{path} has {len(size)} dimensions: expected are 2 or 3.")
    volumes = components * (size[0] if len(size) == 4 else 1)
    if channels is not None or volumes != _PICTURE or len(size) == 4 or _is_list(reader):
        check_channels(path, volumes, channels, f"dimensions {'×'.join(map(str, (*size[::-1], components)))}")
    stored = _bytes_beside(path) if path.suffix.lower() in _FOLLOWS else path.stat().st_size - header.end
    check_claim(path, (volumes, *size[-3:]), _itemsize(reader), stored, packed=not header.is_raw)
    header.check_packed()
    return reader.Execute(), size[-3:], volumes


@contextmanager
def _in_short() -> Iterator[None]:
    """Of an error of ITK the last line, without its places in C++ and in memory."""
    try:
        yield
    except RuntimeError as error:
        raise ValueError(re.sub(r"^.*?(\w+\(0x[0-9a-f]+\))?: ", "", str(error).strip().splitlines()[-1])) from None


def _is_list(reader: sitk.ImageFileReader) -> bool:
    """What NRRD calls a list are measurements: directions of diffusion, times."""
    return any(key.startswith("NRRD_kinds") and reader.GetMetaData(key) == "list" for key in reader.GetMetaDataKeys())


def _itemsize(reader: sitk.ImageFileReader) -> int:
    name = sitk.GetPixelIDValueAsString(reader.GetPixelID())
    return next((int(bits) // 8 for bits in ("8", "16", "32", "64") if f"{bits}-bit" in name), 1)


def _bytes_beside(path: Path) -> int:
    """Of all the files beside a header, among which are those that it names."""
    return sum(entry.stat().st_size for entry in os.scandir(path.parent) if entry.is_file())


def _geometry(image: sitk.Image, shape: tuple[int, ...], path: Path) -> Geometry:
    """Of the image and not of its header: a negative spacing has become a direction there.

    A MetaImage may have the size of its voxels in its directions, which then are no unit vectors.
    """
    count, of_file = len(shape), image.GetDimension()
    direction = np.reshape(image.GetDirection(), (of_file, of_file))[:count, :count]
    lengths = np.linalg.norm(direction, axis=0)
    lengths[np.abs(lengths - 1) < _ROUNDED] = 1
    spacing, origin = lengths * image.GetSpacing()[:count], image.GetOrigin()[:count]
    return Geometry.from_axes(shape, spacing[::-1], origin, (direction / lengths)[:, ::-1], path)


def write(path: Path, labels: NDArray[Any], like: Image) -> None:
    """Label map ``(*S)`` on the grid of ``like`` as .nrrd or .mha, packed."""
    image = sitk.GetImageFromArray(labels)
    image.SetSpacing(like.spacing_mm[::-1])
    image.SetOrigin(like.origin)
    image.SetDirection(like.direction[:, ::-1].ravel().tolist())
    with whole(path) as part:
        named = part.with_suffix(path.suffix)  # by which ITK knows what to write
        try:
            sitk.WriteImage(image, str(named), useCompression=True)
            os.replace(named, part)
        finally:
            named.unlink(missing_ok=True)
