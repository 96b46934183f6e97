"""A DICOM file as a picture: a radiograph, a frame of ultrasound, one slice of a series by itself."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
from pydicom import uid
from pydicom.dataset import Dataset

from allukan.data.pixels import Decoded, Header, check_size
from allukan.data.volumes import dicom
from allukan.data.volumes.dicom_header import frame_count, header_of
from allukan.errors import UserError

_LOSSY = (uid.JPEGBaseline8Bit, uid.JPEGExtended12Bit)


def frames(path: Path) -> int:
    """How many a file says that it has, without its pixels."""
    wanted = pydicom.dcmread(path, stop_before_pixels=True, force=True, specific_tags=["NumberOfFrames"])
    return frame_count(wanted, path)


def header(path: Path) -> Header:
    """What a file promises; ``UserError`` as for volumes, and for several frames."""
    found = _one_frame(path)
    channels, bits = (1 if _is_grey(found) else 3), int(found.BitsStored)
    name = {1: "grey", 3: "RGB"}[channels]
    return Header(channels, " ".join(filter(None, [str(found.get("Modality") or ""), f"{bits} bit", name])), deep=_is_deep(found))


def decode(path: Path) -> Decoded:
    """Values with slope and intercept, white above black; colours of palettes and YBR as RGB. Raises as ``header`` does."""
    found = _one_frame(path)
    values = np.moveaxis(dicom.pixels(path)[:, 0], 0, -1)
    values = values if _is_deep(found) else values.astype(np.uint8)
    low, high = dicom.bounds(found)
    return Decoded(
        np.ascontiguousarray(values),
        white=high if _is_grey(found) and low == 0 and high < 255 else 255,
        turned=found.PhotometricInterpretation == "MONOCHROME1",
        lossy=found.file_meta.TransferSyntaxUID in _LOSSY,
    )


def _one_frame(path: Path) -> Dataset:
    found = header_of(path)
    if (count := frame_count(found, path)) > 1:
        raise UserError(f"{path} holds {count} frames, and a picture is one: save each of them as a file.")
    check_size(path, int(found.Rows), int(found.Columns))
    return found


def _is_grey(found: Dataset) -> bool:
    return found.SamplesPerPixel == 1 and found.PhotometricInterpretation != "PALETTE COLOR"


def _is_deep(found: Dataset) -> bool:
    """By what the bits of the file can give, not by the values that are there."""
    if found.PhotometricInterpretation == "PALETTE COLOR":
        return int(found.RedPaletteColorLookupTableDescriptor[2]) > 8
    low, high = dicom.bounds(found)
    return dicom.type_for([dicom.scale(found, 0)] if _is_grey(found) else [(1.0, 0.0)], low, high) != np.uint8
