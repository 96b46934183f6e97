"""NRRD and MetaImage with SimpleITK, which reads and writes both with their geometry."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from allukan.data.volumes.geometry import Geometry
from allukan.data.volumes.image import Image, Source
from allukan.data.volumes.limits import check_channels, check_claim
from allukan.errors import UserError
from allukan.files import whole

_IO = {"nrrd": "NrrdImageIO", "meta": "MetaImageIO"}
_FOLLOWS = (".nhdr", ".mhd")  # headers whose voxels are in files of their own
_PICTURE = 3  # components that are colours and not a series
sitk.ProcessObject.SetGlobalWarningDisplay(False)  # errors become sentences, and ITK prints the rest to stderr


def read(path: Path, kind: str, channels: int | None = None) -> Image:
    """An NRRD or MetaImage ("nrrd", "meta"), their voxels in the file or beside it.

    Two or three dimensions; a fourth one, or components other than colours, only where ``channels`` says how many.

    Raises ``UserError`` for anything else, complex numbers, and headers that claim more than the files hold.
    """
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
    check_claim(path, (volumes, *size[-3:]), _itemsize(reader), _bytes_of(path), packed=True)
    image = reader.Execute()
    values = sitk.GetArrayFromImage(image)
    if components > 1:
        values = np.moveaxis(values, -1, 0)
    values = np.ascontiguousarray(values.reshape(volumes, *size[-3:]))
    return Image(values, _geometry(image, size[-3:], path), Source(kind, (path,)))


def _is_list(reader: sitk.ImageFileReader) -> bool:
    """What NRRD calls a list are measurements: directions of diffusion, times."""
    return any(key.startswith("NRRD_kinds") and reader.GetMetaData(key) == "list" for key in reader.GetMetaDataKeys())


def _itemsize(reader: sitk.ImageFileReader) -> int:
    name = sitk.GetPixelIDValueAsString(reader.GetPixelID())
    return next((int(bits) // 8 for bits in ("8", "16", "32", "64") if f"{bits}-bit" in name), 1)


def _bytes_of(path: Path) -> int:
    """Of a header alone: of all the files beside it, among which are those that it names."""
    if path.suffix.lower() not in _FOLLOWS:
        return path.stat().st_size
    return sum(entry.stat().st_size for entry in os.scandir(path.parent) if entry.is_file())


def _geometry(image: sitk.Image, shape: tuple[int, ...], path: Path) -> Geometry:
    """Of the image and not of its header: a negative spacing has become a direction there."""
    count, of_file = len(shape), image.GetDimension()
    direction = np.reshape(image.GetDirection(), (of_file, of_file))[:count, :count]
    spacing, origin = image.GetSpacing()[:count][::-1], image.GetOrigin()[:count]
    return Geometry.from_axes(shape, spacing, origin, direction[:, ::-1], path)


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
