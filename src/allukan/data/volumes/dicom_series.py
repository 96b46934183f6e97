"""A folder of DICOM files to the headers of one series."""

from __future__ import annotations

import logging
from collections import defaultdict
from pathlib import Path

import pydicom
from pydicom.dataset import Dataset

from allukan.data.names import is_slice, is_volume, visible
from allukan.data.volumes.dicom_header import has_image, header_of
from allukan.data.volumes.kinds import kind_of
from allukan.errors import UserError

_log = logging.getLogger("allukan")


def choose(folder: Path, series: str | None = None) -> dict[Path, Dataset]:
    """The headers of the one series of images in a folder, or of that with the UID ``series``, each checked.

    Scout images (LOCALIZER in their ImageType) are left out beside others, and volumes of other formats, which the log says;
    plans, reports and directories are no images. Raises ``UserError`` for a folder without images, and for several series,
    which it names.
    """
    found: dict[str, dict[Path, Dataset]] = defaultdict(dict)
    scouts = {}
    for path in visible(folder):
        header = _image_header(path)
        if header is None:
            continue
        if "LOCALIZER" in (header.get("ImageType") or []):
            scouts[path] = header
        else:
            found[str(header.get("SeriesInstanceUID", ""))][path] = header
    if not found:
        for path, header in scouts.items():
            found[str(header.get("SeriesInstanceUID", ""))][path] = header
    elif scouts:
        _log.warning(f"{folder}: {len(scouts)} scout image{'s' * (len(scouts) > 1)} left out, as {next(iter(scouts)).name}.")
    chosen = _one(folder, found, series)
    if others := [path.name for path in visible(folder) if path.is_file() and not is_slice(path) and is_volume(path)]:
        _log.warning(
            f"{folder} is read as its DICOM slices: {len(others)} other volume{'s' * (len(others) > 1)} left out, as {others[0]}."
        )
    return {path: header_of(path) for path in chosen}


def _image_header(path: Path) -> Dataset | None:
    if not path.is_file():
        return None
    try:
        if kind_of(path) != "dicom":
            return None
    except UserError:
        return None  # a text, a list, a thumbnail
    header = pydicom.dcmread(path, stop_before_pixels=True, force=True)
    return header if has_image(header) else None


def _one(folder: Path, found: dict[str, dict[Path, Dataset]], series: str | None) -> dict[Path, Dataset]:
    if not found:
        raise UserError(f"{folder} holds no DICOM images: give the folder with the slices of a series.")
    names = "; ".join(f"{_title(files)}: {len(files)} files, {uid}" for uid, files in sorted(found.items())[:5])
    if series is not None:
        if series not in found:
            raise UserError(f"{folder} has no series {series}: it holds {names}.")
        return found[series]
    if len(found) > 1:
        raise UserError(f"{folder} holds {len(found)} series ({names}): move each into a folder of its own.")
    return next(iter(found.values()))


def _title(files: dict[Path, Dataset]) -> str:
    path, header = next(iter(files.items()))
    return str(header.get("SeriesDescription") or f"as {path.name}")
