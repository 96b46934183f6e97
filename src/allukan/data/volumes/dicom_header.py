"""What the header of a DICOM file says about its frames: where each lies, and what its values mean."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from allukan.data.volumes import dicom_codecs
from allukan.data.volumes.limits import check_claim
from allukan.errors import UserError

_NO_IMAGE = {  # by SOP class: their pixels are no picture of a patient
    "1.2.840.10008.5.1.4.1.1.66.4": "a segmentation",
    "1.2.840.10008.5.1.4.1.1.66.7": "a label map segmentation",
    "1.2.840.10008.5.1.4.1.1.481.2": "a dose of radiotherapy",
    "1.2.840.10008.5.1.4.1.1.30": "a parametric map",
    "1.2.840.10008.5.1.4.1.1.77.1.6": "a tiled slide",
}
_SIZES = ("PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing")  # the latter two at the detector
_THICKNESS = ("SpacingBetweenSlices", "SliceThickness")


@dataclass(frozen=True)
class Frame:
    """One slice: of a file that is one, or of a file of many.

    Attributes:
        path, number: the file, and the place in it.
        position: of the centre of its first pixel, (x, y, z) in mm.
        rows, columns: unit vectors along which the row and the column index grow.
        spacing_mm: between rows and between columns.
    """

    path: Path
    number: int
    position: NDArray[np.float64]
    rows: NDArray[np.float64]
    columns: NDArray[np.float64]
    spacing_mm: tuple[float, float]


def header_of(path: Path) -> Dataset:
    """The header, checked: there is an image, its codec is known, and the file is as long as it says. Raises ``UserError``."""
    with path.open("rb") as file:
        dataset = pydicom.dcmread(file, stop_before_pixels=True, force=True)
        left = path.stat().st_size - file.tell()
    what = _NO_IMAGE.get(str(dataset.get("SOPClassUID", "")))
    if what:
        raise UserError(f"{path} is {what} and no image: give the image that it was made from.")
    if not has_image(dataset):
        raise UserError(f"{path} holds no pixel data ({kind(dataset)}): remove it from the images.")
    syntax = dataset.file_meta.get("TransferSyntaxUID")
    if syntax is None:
        raise UserError(f"{path} does not say how it is encoded (no TransferSyntaxUID): write it again as a DICOM file.")
    if not dicom_codecs.is_read(syntax):
        raise UserError(f"{path} is compressed as {syntax.name}, which is not read: decompress it, for instance with gdcmconv.")
    if "ModalityLUTSequence" in dataset:
        raise UserError(f"{path} gives its values by a table (Modality LUT Sequence), which is not read.")
    _check_bits(dataset, path)
    shape = (frame_count(dataset, path), int(dataset.Rows), int(dataset.Columns), int(dataset.SamplesPerPixel))
    size = max(1, int(dataset.BitsAllocated) // 8)
    packed = syntax.is_compressed or syntax.is_deflated
    subsampled = dataset.get("PhotometricInterpretation") == "YBR_FULL_422"  # two bytes a pixel instead of three
    check_claim(path, shape, size, prod(shape) * size if packed or subsampled else left, packed=False)
    return dataset


def _check_bits(dataset: Dataset, path: Path) -> None:
    """Values are where today's standard wants them, in the lowest bits; pydicom takes them from there without looking."""
    stored, high = dataset.get("BitsStored"), dataset.get("HighBit")
    if stored is not None and high is not None and int(high) != int(stored) - 1:
        raise UserError(
            f"{path} says that its {stored} bits end at bit {high} (HighBit) instead of {int(stored) - 1}, as in old files: "
            "write it again with software of today."
        )


def has_image(dataset: Dataset) -> bool:
    """Whether a header describes pixels; plans, reports, waveforms and directories do not."""
    return all(dataset.get(name) is not None for name in ("Rows", "Columns", "BitsAllocated", "SamplesPerPixel"))


def kind(dataset: Dataset) -> str:
    """The SOP class in words."""
    name = dataset.get("SOPClassUID") or dataset.file_meta.get("MediaStorageSOPClassUID")
    return getattr(name, "name", None) or "of no SOP class"


def frame_count(dataset: Dataset, path: Path) -> int:
    """Number of frames, 1 where nothing is said."""
    try:
        return int(dataset.get("NumberOfFrames") or 1)
    except ValueError:
        raise UserError(f"{path} has a damaged header: its NumberOfFrames is no number.") from None


def frames_of(dataset: Dataset, path: Path) -> list[Frame]:
    """Every frame with its place; empty for files that say none, as radiographs and ultrasound.

    Raises ``UserError`` where some frames have a place and others do not.
    """
    found = [_frame(dataset, path, number) for number in range(frame_count(dataset, path))]
    placed = [frame for frame in found if frame]
    if placed and len(placed) < len(found):
        raise UserError(f"{path} says of {len(placed)} of its {len(found)} frames where they lie: expected is all or none.")
    return placed


def _frame(dataset: Dataset, path: Path, number: int) -> Frame | None:
    position = described(dataset, number, "PlanePositionSequence", "ImagePositionPatient")
    turned = described(dataset, number, "PlaneOrientationSequence", "ImageOrientationPatient")
    spacing = described(dataset, number, "PixelMeasuresSequence", "PixelSpacing")
    if not position or not turned or not spacing:
        return None
    along = np.asarray(turned, np.float64).reshape(2, 3)  # a row of pixels, along which the column index grows, comes first
    lengths = np.linalg.norm(along, axis=1)
    if not (np.abs(lengths - 1) < 0.01).all() or abs(along[0] @ along[1]) > 0.01:
        raise UserError(f"{path} has a damaged header: ImageOrientationPatient is {list(turned)}.")
    columns, rows = along / lengths[:, None]
    return Frame(path, number, np.asarray(position, np.float64), rows, columns, (float(spacing[0]), float(spacing[1])))


def described(dataset: Dataset, number: int, sequence: str, name: str) -> Any:
    """An element of one frame: of its own functional group, of the shared one, or of the file (not enhanced)."""
    own = dataset.get("PerFrameFunctionalGroupsSequence") or []
    groups = [*own[number : number + 1], *(dataset.get("SharedFunctionalGroupsSequence") or [])]
    for group in groups:
        if group.get(sequence) and name in group[sequence][0]:
            return group[sequence][0].get(name)
    return dataset.get(name)


def pixel_size(dataset: Dataset) -> tuple[float, float] | None:
    """Between rows and columns, of a file without a place; None where it says none."""
    spacing = next((dataset.get(name) for name in _SIZES if dataset.get(name)), None)
    return None if spacing is None else (float(spacing[0]), float(spacing[1]))


def thickness_mm(dataset: Dataset) -> float:
    """The size of a single slice across itself: as the file says, else 1."""
    values = [described(dataset, 0, "PixelMeasuresSequence", name) for name in _THICKNESS]
    return next((float(value) for value in values if value and float(value) > 0), 1.0)
