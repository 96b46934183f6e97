"""Label maps as DICOM SEG, which viewers and archives lay over the series that they belong to (extra ``allukan[dicom]``)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from allukan._version import __version__
from allukan.data.decode import damage_told
from allukan.data.volumes.image import Image
from allukan.data.volumes.reading import as_labels
from allukan.data.volumes.writing import check_target
from allukan.errors import UserError
from allukan.files import whole

if TYPE_CHECKING:
    import pydicom


def write_segmentation(path: str | Path, labels: NDArray[Any], like: Image, names: Mapping[int, str]) -> None:
    """Write ``(D, H, W)`` as a DICOM SEG (binary, one segment a value) of the series, or ``(H, W)`` of the one file, of ``like``.

    ``names`` are those of the values above 0, in the order of their segments: 1, 2 … Raises ``UserError`` without highdicom, for
    an image of another kind or of frames in one file, for a value without a name, and as ``write_labels`` does.
    """
    path = Path(path)
    check_target(path, labels.shape, like)
    check_segmentation(like)
    files = like.source.paths
    numbers = as_labels(labels, path)
    unknown = sorted(set(np.unique(numbers).tolist()) - {0, *names})
    if unknown or not names:
        raise UserError(f"{path}: the labels {unknown[:5]} have no name, and a DICOM SEG names every segment.")
    segments = np.zeros((len(files), *labels.shape[-2:]), np.uint8)
    for number, value in enumerate(names, 1):
        segments[numbers.reshape(segments.shape) == value] = number
    path.parent.mkdir(parents=True, exist_ok=True)
    import pydicom

    with damage_told(files[0]):
        made = _made(segments, [pydicom.dcmread(file) for file in files], names)
    with whole(path) as part:
        made.save_as(part)


def check_segmentation(like: Image | None = None) -> None:
    """Raises ``UserError`` without highdicom, where ``like`` is no DICOM series of a file a slice, or has no frame."""
    try:
        import highdicom  # noqa: F401
    except ImportError:
        raise UserError("DICOM SEG needs the package highdicom: pip install 'allukan[dicom]'.") from None
    if like is None:
        return
    name = like.source.paths[0] if like.source.paths else "the image"
    if like.source.kind == "dicom" and (like.geometry.shape[:-2] or (1,)) == (len(like.source.paths),):
        _check_frame(like.source.paths[0])
        return
    other = "PNG" if len(like.geometry.shape) == 2 else "NIfTI"
    raise UserError(f"{name}: a DICOM SEG belongs to a DICOM series with a file a slice, which this is not: write {other}.")


def _check_frame(path: Path) -> None:
    import pydicom

    if not pydicom.dcmread(path, stop_before_pixels=True, force=True).get("FrameOfReferenceUID"):
        raise UserError(f"{path} names no frame of reference (FrameOfReferenceUID), which a DICOM SEG needs: write PNG or NIfTI.")


def _made(segments: NDArray[np.uint8], slices: list[pydicom.Dataset], names: Mapping[int, str]) -> Any:
    import highdicom as hd
    from pydicom.sr.codedict import codes

    model = hd.AlgorithmIdentificationSequence("allukan", codes.DCM.ArtificialIntelligence, __version__)
    described = [
        hd.seg.SegmentDescription(
            number, name, codes.SCT.Tissue, codes.SCT.Tissue, hd.seg.SegmentAlgorithmTypeValues.AUTOMATIC, model
        )
        for number, name in enumerate(names.values(), 1)
    ]
    return hd.seg.Segmentation(
        source_images=slices,
        pixel_array=segments,
        segmentation_type=hd.seg.SegmentationTypeValues.BINARY,
        segment_descriptions=described,
        series_instance_uid=hd.UID(),
        series_number=int(slices[0].get("SeriesNumber") or 0) + 1000,
        sop_instance_uid=hd.UID(),
        instance_number=1,
        manufacturer="allukan",
        manufacturer_model_name="allukan",
        software_versions=__version__,
        device_serial_number="0",
    )
