"""Files to arrays: what a file is, is told by its content, never by its name, and there is one reader for each kind."""

from __future__ import annotations

import re
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from allukan.data import png, raster, tiff
from allukan.data.pixels import Decoded, Header
from allukan.errors import UserError

IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff"})  # by which pictures are found in a folder
PICTURE_SUFFIXES = IMAGE_SUFFIXES | {".dcm"}  # that can be one: a DICOM file is a picture or a volume
VOLUME_SUFFIXES = frozenset({".nii", ".nii.gz", ".nrrd", ".nhdr", ".mha", ".mhd", ".dcm"})  # by which volumes are
_READERS = {  # by how a file begins
    b"\x89PNG\r\n\x1a\n": (png.header, png.decode),
    b"\xff\xd8\xff": (raster.jpeg_header, raster.jpeg),
    b"BM": (raster.bmp_header, raster.bmp),
    b"GIF8": (raster.gif_header, raster.gif),
    b"II*\0": (tiff.header, tiff.decode),
    b"MM\0*": (tiff.header, tiff.decode),
    b"II+\0": (tiff.header, tiff.decode),  # BigTIFF
    b"MM\0+": (tiff.header, tiff.decode),
}
_OTHERS = {  # by what the file holds at a position
    (8, b"WEBP"): "a WebP image",
    (4, b"ftypavif"): "an AVIF image",
    (4, b"ftyphei"): "a HEIC image",
    (4, b"jP  "): "a JPEG 2000 image",
    (0, b"\xff\x4f\xff\x51"): "a JPEG 2000 image",
    (4, b"JXL "): "a JPEG XL image",
    (0, b"\xff\x0a"): "a JPEG XL image",
    (344, b"n+1\0"): "a NIfTI volume",
    (0, b"NRRD"): "an NRRD volume",
    (0, b"\x1f\x8b"): "a gzip archive",
    (0, b"PK\x03\x04"): "a ZIP archive",
    (0, b"%PDF"): "a PDF",
    (0, b"<"): "a web page or SVG",
}
_VR = re.compile(rb"[A-Z]{2}")  # of an element of DICOM
_LFS = b"version https://git-lfs"


def decode(path: Path) -> Decoded:
    """Read one file in the orientation that it asks for. Raises ``UserError`` for a file that is no single readable image."""
    found: Decoded = _read(path, 1)
    return found


def header(path: Path) -> tuple[int, str]:
    """Channels (1 grey, 3 colour, or as many as there are) and kind of an image, without decoding it; errors as in ``decode``."""
    found: Header = _read(path, 0)
    return found.channels, found.kind


def is_deep(path: Path) -> bool:
    """Whether a byte cannot hold the values of this file: more than 8 bits, a sign, fractions. Errors as in ``decode``."""
    found: Header = _read(path, 0)
    return found.deep


def is_picture(start: bytes) -> bool:
    """Whether a file that begins so is one of those that are read here."""
    return any(start.startswith(magic) for magic in _READERS)


def is_dicom(start: bytes) -> bool:
    """Whether a file that begins so is DICOM; without the preamble by the tag of a first group, in either byte order."""
    tag, rest = start[:4], start[4:8]
    if start.startswith(b"DICM", 128):
        return True
    if len(rest) < 4 or tag[:2] not in (b"\x02\0", b"\x08\0", b"\0\x02", b"\0\x08"):
        return False
    return bool(_VR.match(rest)) or rest[2:] == b"\0\0" or rest[:2] == b"\0\0"  # a VR or a small length follows


def _read(path: Path, which: int) -> Any:
    with damage_told(path):
        return _reader(path)[which](path)


@contextmanager
def damage_told(path: Path) -> Iterator[None]:
    """Whatever a decoder raises becomes a ``UserError`` about ``path``, and what it warns of is not shown."""
    try:
        with _QUIET:
            yield
    except UserError:
        raise
    except FileNotFoundError:
        raise UserError(f"{path} does not exist.") from None
    except Exception as error:  # damage shows itself in any type: every codec has exceptions of its own
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise UserError(f"{path} cannot be read as an image ({reason}): replace or remove it.") from None


def _reader(path: Path) -> tuple[Callable[[Path], Header], Callable[[Path], Decoded]]:
    with path.open("rb") as file:
        start = file.read(512)
    if is_dicom(start):  # first: its preamble may be that of a TIFF
        from allukan.data.volumes import dicom_picture  # which imports this module, and pydicom

        return dicom_picture.header, dicom_picture.decode
    for magic, reader in _READERS.items():
        if start.startswith(magic):
            return reader
    if start.startswith(_LFS):
        raise UserError(f"{path} is a pointer of Git LFS instead of the file itself: fetch it with git lfs pull.")
    for (position, magic), name in _OTHERS.items():
        if start.startswith(magic, position):
            raise UserError(f"{path} holds {name}, which is not read as an image: save it as PNG or TIFF.")
    raise UserError(f"{path} cannot be read as an image (it is no PNG, JPEG, TIFF, BMP, GIF or DICOM): replace or remove it.")


class _Quiet:
    """Silences the warnings of the decoders for as long as any thread decodes: filters belong to the process, not to a thread."""

    def __init__(self) -> None:
        self._lock, self._inside = threading.Lock(), 0

    def __enter__(self) -> None:
        with self._lock:
            if self._inside == 0:
                self._filters = warnings.catch_warnings()
                self._filters.__enter__()
                warnings.simplefilter("ignore")
            self._inside += 1

    def __exit__(self, *error: object) -> None:
        with self._lock:
            self._inside -= 1
            if self._inside == 0:
                self._filters.__exit__(None, None, None)


_QUIET = _Quiet()
