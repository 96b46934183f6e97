"""Label maps on the grid of their image, in its kind of file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from allukan.data.images import write_image
from allukan.data.volumes.image import Image
from allukan.data.volumes.reading import as_labels
from allukan.errors import UserError

_SUFFIXES = {"nrrd": ".nrrd", "meta": ".mha", "dicom": ".nii.gz", "tiff": ".tif", "picture": ".png", "array": ".nii.gz"}
_VOLUMES = (".nii.gz", ".nii", ".nrrd", ".mha", ".tif")


def label_suffix(like: Image) -> str:
    """The suffix of label maps of an image: its own kind in one file, NIfTI for DICOM, PNG for pictures.

    >>> from allukan.data.volumes.geometry import Geometry
    >>> label_suffix(Image(np.zeros((1, 2, 2, 2)), Geometry.of_pixels((2, 2, 2))))
    '.nii.gz'
    """
    if len(like.geometry.shape) == 2:
        return ".png" if like.source.kind not in ("nrrd", "meta") else _SUFFIXES[like.source.kind]
    if like.source.kind == "nifti":
        return ".nii" if like.source.paths[0].suffix == ".nii" else ".nii.gz"
    return _SUFFIXES[like.source.kind]


def write_labels(path: str | Path, labels: NDArray, like: Image) -> None:
    """Write a label map ``(*S)``, whole numbers from 0, in the smallest unsigned type, whole or not at all; folders are made.

    The suffix says the kind: .nii.gz, .nii, .nrrd, .mha, .tif (without a place) or, of two dimensions, .png. Where ``like`` was
    a NIfTI, a NIfTI has the matrices of its header bit for bit. Raises ``UserError`` for another shape than that of ``like``,
    for labels that are none, for another suffix, and for a path that is one of the files of ``like``.
    """
    path = Path(path)
    check_target(path, labels.shape, like)
    small = np.ascontiguousarray(as_labels(labels, path)) if labels.size else labels
    suffix = next((known for known in (*_VOLUMES, ".png") if path.name.lower().endswith(known)), "")
    flat = len(like.geometry.shape) == 2
    if not suffix or (suffix == ".png") > flat or (flat and suffix not in (".png", ".nrrd", ".mha")):
        raise UserError(f"{path} has no suffix in which this label map is written: take {label_suffix(like)}.")
    path.parent.mkdir(parents=True, exist_ok=True)
    if suffix == ".png":
        _check_bits(small, path)
        write_image(path, small)
    elif suffix in (".nrrd", ".mha"):
        from allukan.data.volumes import itk

        itk.write(path, small, like)
    elif suffix == ".tif":
        from allukan.data.volumes import stack

        stack.write(path, small)
    else:
        from allukan.data.volumes import nifti

        nifti.write(path, small, like)


def check_target(path: Path, shape: tuple[int, ...], like: Image) -> None:
    """Raises ``UserError`` where labels do not fit ``like``, and where ``path`` is a file that it was read from."""
    if shape != like.geometry.shape:
        raise UserError(f"labels of shape {shape} do not lie on an image of {like.geometry.shape} voxels.")
    if any(path.exists() and path.samefile(source) for source in like.source.paths if source.exists()):
        raise UserError(f"{path} is the image itself and not overwritten: choose another name.")


def _check_bits(labels: NDArray, path: Path) -> None:
    if labels.dtype.itemsize > 2:
        raise UserError(f"{path} is a PNG, which holds labels up to 65535, not {labels.max()}: number them anew.")
