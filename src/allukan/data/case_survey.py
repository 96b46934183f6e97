"""The fingerprint of cases on disk: each is read, measured and let go, so that any set fits into memory."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from allukan.data.dataset import Case, Dataset
from allukan.data.fingerprint import CaseFacts, Fingerprint, case_facts, fingerprint
from allukan.data.preparation import read_case
from allukan.data.volume_cases import read_volume_case
from allukan.data.volumes import CANONICAL
from allukan.data.volumes.kinds import kind_of
from allukan.errors import UserError


def survey(dataset: Dataset, cases: Sequence[Case], channels: Sequence[int]) -> Fingerprint:
    """Of ``cases``, read in threads, with the intensities of their files; volumes are turned towards head, back and left.

    What channels show is as the dataset says, else as DICOM files say (Modality). Raises ``UserError`` without cases and for the
    first file that is not usable.
    """
    if not cases:
        raise UserError(f"no images of {dataset.root} to plan for: the selection is empty.")

    def look(case: Case) -> tuple[CaseFacts, str]:
        if dataset.spatial_dims == 2:
            picture, masks = read_case(case, dataset, channels, keep=True)
            return case_facts(np.moveaxis(picture, -1, 0), masks == 1), _modality(case.images[0])
        image, masks = read_volume_case(case, dataset, channels)
        turned, axes = image.reoriented(), image.geometry.axes_to(CANONICAL[3])
        return case_facts(turned.array, axes.apply(masks) == 1, turned.spacing_mm), _modality(image.source.paths[0])

    with ThreadPoolExecutor() as pool:
        facts, modalities = zip(*pool.map(look, cases), strict=True)
    return fingerprint(facts, dataset.classes, _names(dataset, sum(channels), set(modalities)))


def _modality(path: Path) -> str:
    """ "CT" of a CT in DICOM, "MR" and so on; empty for other files, which do not say."""
    if kind_of(path) != "dicom":
        return ""
    import pydicom

    return str(pydicom.dcmread(path, stop_before_pixels=True, force=True, specific_tags=["Modality"]).get("Modality", ""))


def _names(dataset: Dataset, channels: int, modalities: set[str]) -> tuple[str, ...]:
    """Of every channel; empty where nothing is known, or the cases are of several kinds."""
    if len(dataset.channel_names) == channels:
        return dataset.channel_names
    return tuple(modalities) * channels if len(modalities) == 1 else ()
