"""NIfTI with nibabel alone, also where ITK would read it: ITK refuses directions that are not at right angles and NIfTI-2."""

from __future__ import annotations

import gzip
import logging
from math import prod
from pathlib import Path
from typing import IO, Any, cast

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from allukan.data.volumes.geometry import Geometry
from allukan.data.volumes.image import Image, Source
from allukan.data.volumes.limits import check_channels, check_claim
from allukan.errors import UserError
from allukan.files import whole

_log = logging.getLogger("allukan")
_GZIP = b"\x1f\x8b"
_TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
_TO_MM = {1: 1e3, 3: 1e-3}  # xyzt_units: metres, micrometres; 0 and 2 are millimetres
_LEVEL = 1  # of zlib, as nibabel has it: label maps pack well at any
_SCANNER = 1  # the code of matrices that we write ourselves


def read(path: Path, channels: int | None = None) -> Image:
    """One volume, or as many as ``channels`` says along the fourth (or fifth) dimension.

    The matrix is sform where it is coded, else qform, as nibabel has it; without both, spacing alone is known, which is said in
    the log. Values are scaled by slope and intercept where there are any. Raises ``UserError`` for a time series, RGB, complex
    numbers, headers without a usable geometry, and for a file that is shorter than its header says; anything else for damage.
    """
    with _opened(path) as file:
        header = _header(file, path)
        shape, volumes = _shape(header, path)
        check_channels(path, volumes, channels, f"dimensions {'×'.join(map(str, header.get_data_shape()))}")
        dtype = header.get_data_dtype()
        stored = path.stat().st_size - (0 if isinstance(file, gzip.GzipFile) else header.get_data_offset())
        check_claim(path, (volumes, *shape), dtype.itemsize, stored, packed=isinstance(file, gzip.GzipFile))
        raw = header.raw_data_from_fileobj(file)
        while file.read(1 << 20):  # to the end, where gzip keeps its checksum
            pass
    stored_order = raw.reshape(*shape[::-1], volumes, order="F").T  # C, D, H, W
    values = _scaled(np.ascontiguousarray(stored_order, dtype.newbyteorder("=")), header)
    geometry = Geometry.from_affine(_affine(header, path), shape, path)
    return Image(values, geometry, Source("nifti", (path,), header))


def _opened(path: Path) -> IO[bytes]:
    with path.open("rb") as file:
        packed = file.read(2) == _GZIP
    return cast(IO[bytes], gzip.open(path, "rb") if packed else path.open("rb"))


def _header(file: IO[bytes], path: Path) -> nib.Nifti1Header:
    start = file.read(8)
    file.seek(0)
    second = start[4:7] in (b"n+2", b"ni2")
    header = (nib.Nifti2Header if second else nib.Nifti1Header).from_fileobj(file, check=False)
    if bytes(header["magic"].item())[:2] == b"ni":
        raise UserError(f"{path} is one of two files (.hdr and .img), which are not read: save it as one .nii.gz.")
    if not 1 <= header["dim"][0] <= 7:
        raise UserError(f"{path} has a damaged header: it claims {header['dim'][0]} dimensions.")
    dtype = header.get_data_dtype()
    if dtype.kind not in "iuf" or dtype.itemsize > 8:
        name = "colours (RGB)" if dtype.names else f"numbers of type {dtype}"
        raise UserError(f"{path} holds {name}, which are not read as a volume: save one grey channel a file.")
    return header


def _shape(header: nib.Nifti1Header, path: Path) -> tuple[tuple[int, ...], int]:
    """(D, H, W) and how many volumes."""
    sizes = [int(size) for size in header.get_data_shape()]
    if min(sizes) < 1:
        raise UserError(f"{path} has a damaged header: it claims {'×'.join(map(str, sizes))} voxels.")
    sizes += [1] * (3 - len(sizes))
    return tuple(sizes[2::-1]), prod(sizes[3:])


def _scaled(values: NDArray[Any], header: nib.Nifti1Header) -> NDArray[Any]:
    slope, intercept = header.get_slope_inter()
    if slope is None or (slope, intercept) == (1, 0):
        return values
    wide = np.dtype(np.float32 if values.dtype.itemsize <= (4 if values.dtype.kind == "f" else 2) else np.float64)
    return values.astype(wide) * wide.type(slope) + wide.type(intercept or 0)


def _affine(header: nib.Nifti1Header, path: Path) -> NDArray[np.float64]:
    """``(4, 4)``: (d, h, w, 1) → LPS in mm."""
    if int(header["sform_code"]) > 0:
        matrix = header.get_sform()
    else:
        header["pixdim"][1:4] = np.abs(header["pixdim"][1:4])  # negative in some: their signs say nothing, quaternions do
        matrix = header.get_qform() if int(header["qform_code"]) > 0 else header.get_base_affine()
        if int(header["qform_code"]) <= 0:
            _log.warning(
                f"{path} does not say how the patient lies (sform and qform are 0): its spacing is used, and left and right are "
                "as nibabel assumes."
            )
    scale = _TO_MM.get(int(header["xyzt_units"]) % 8, 1.0)
    return np.asarray(_TO_LPS @ np.diag([scale, scale, scale, 1]) @ matrix @ _BACKWARDS)


_BACKWARDS = np.eye(4)[[2, 1, 0, 3]]  # (d, h, w) → (i, j, k)


def write(path: Path, labels: NDArray[Any], like: Image) -> None:
    """Label map ``(D, H, W)`` on the grid of ``like``: with its own header where it has one, else with sform and qform."""
    data = labels.T
    if like.source.header is not None:
        image = _with_header(data, like.source.header)
    else:
        affine = _TO_LPS @ like.geometry.affine @ _BACKWARDS
        image = nib.Nifti1Image(data, affine)
        image.header.set_xyzt_units("mm")
        image.set_sform(affine, _SCANNER)
        image.set_qform(affine if like.geometry.is_orthogonal else None, _SCANNER if like.geometry.is_orthogonal else 0)
    content = image.to_bytes()
    with whole(path) as part:
        part.write_bytes(gzip.compress(content, _LEVEL, mtime=0) if path.suffix == ".gz" else content)


def _with_header(data: NDArray[Any], source: nib.Nifti1Header) -> nib.Nifti1Image:
    header = source.copy()
    header.extensions.clear()  # of the image: names of patients, protocols
    header.set_data_dtype(data.dtype)
    header.set_data_shape(data.shape)
    header.set_slope_inter(1, 0)
    header.set_intent("none")
    header["magic"], header["vox_offset"] = header.single_magic, 0
    header["cal_min"] = header["cal_max"] = 0
    for name in {"descrip", "aux_file", "db_name"} & set(header.keys()):  # converters put comments on the patient there
        header[name] = b""
    kind = nib.Nifti2Image if isinstance(source, nib.Nifti2Header) else nib.Nifti1Image
    return kind(data, None, header)
