"""What is said before the images of a training are read, which can take minutes without a word."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from allukan.data import Dataset

_log = logging.getLogger("allukan")
_WORTH_TELLING = 10 * 2**20  # bytes: about a second of reading


def tell_of_reading(dataset: Dataset, ids: Sequence[str], first: bool = True) -> None:
    """A line about the cases ``ids``, where reading them takes longer than a second or so; by the ``first`` process alone."""
    size = sum(_size(path) for case in dataset.select(ids) for path in case.images)
    if first and size >= _WORTH_TELLING:
        kind = "volumes" if dataset.spatial_dims == 3 else "images"
        _log.info(f"reading {len(ids)} {kind} of {dataset.root} ({size / 2**20:,.0f} MB) …")


def _size(path: Path) -> int:
    """Of a file, or of all in a folder of DICOM."""
    return sum(map(_size, path.iterdir())) if path.is_dir() else path.stat().st_size
