"""What a file is, by its content: a NIfTI that is called .img is a NIfTI."""

from __future__ import annotations

import gzip
import re
from pathlib import Path

from allukan.data.decode import damage_told, is_dicom, is_picture
from allukan.data.names import visible
from allukan.errors import UserError

_START = 512
_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_NIFTI = {344: (b"n+1\0", b"ni1\0"), 4: (b"n+2\0", b"ni2\0")}
_ANALYZE = (b"\x5c\x01\0\0", b"\0\0\x01\x5c")  # 348, the size of its header
_META = re.compile(rb"\s*(ObjectType|NDims|Comment)\s*=")
_OTHERS = {  # which people take for volumes
    b"version https://git-lfs": "a pointer of Git LFS instead of the file itself (git lfs pull fetches it)",
    b"CDF": "MINC",
    b"\x89HDF": "MINC or another kind of HDF5",
    b"# === DATA": "a Philips PAR header",
    b"TRACK": "streamlines",
    b"mrtrix": "streamlines",
    b"type =": "an AFNI header",
    b"MATRIX7": "ECAT",
}
_KNOWN = "known are NIfTI, NRRD, MetaImage, DICOM, TIFF, PNG, JPEG, BMP and GIF"


def kind_of(path: Path) -> str:
    """The kind of a file: "nifti", "nrrd", "meta", "dicom", "tiff" or "picture"; "series" for a folder.

    Raises ``UserError`` for any other, and ``OSError`` like any read.
    """
    if path.is_dir():
        return "series"
    start = _start(path)
    if kind := _kind(start):
        return kind
    packed = start[:2] == b"\x1f\x8b"
    inside = _unpacked(path) if packed else start
    if packed and _kind(inside) == "nifti":
        return "nifti"
    what = next((name for magic, name in _OTHERS.items() if inside.lstrip().startswith(magic)), "")
    if _kind(inside) == "dicom":
        what = "a packed DICOM file"
    elif inside[:4] in _ANALYZE:
        what = "ANALYZE 7.5, in which left and right are not told apart,"
    elif packed and not what:
        what = "a packed file that is no NIfTI"
    raise UserError(
        f"{path} {f'holds {what} and' if what else 'is of no kind that'} is {'not ' * bool(what)}read as an image: {_KNOWN}."
    )


def is_volume(path: Path) -> bool:
    """Whether this package reads a path and the decoders of pictures do not: volumes, DICOM, TIFF stacks, DICOM folders.

    False for what is missing, damaged or of no known kind.
    """
    try:
        with damage_told(path):
            return _is_volume(path)
    except UserError:
        return False


def _is_volume(path: Path) -> bool:
    kind = kind_of(path)
    if kind == "series":
        return any(file.is_file() and _kind(_start(file)) == "dicom" for file in visible(path))
    if kind != "tiff":
        return kind != "picture"
    from allukan.data.volumes import stack

    return stack.is_stack(path)


def _start(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(_START)


def _unpacked(path: Path) -> bytes:
    try:
        with gzip.open(path, "rb") as file:
            return file.read(_START)
    except (OSError, EOFError):  # damaged: of no kind
        return b""


def _kind(start: bytes) -> str:
    if any(start.startswith(magic, at) for at, magics in _NIFTI.items() for magic in magics):
        return "nifti"
    if start.startswith(b"NRRD0"):
        return "nrrd"
    if _META.match(start):
        return "meta"
    if is_dicom(start):
        return "dicom"
    if start.startswith(_TIFF):
        return "tiff"
    return "picture" if is_picture(start) else ""
