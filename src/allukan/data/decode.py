"""Files to arrays: the one place that knows PIL and tifffile."""

from __future__ import annotations

import logging
import struct
import warnings
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image, ImageOps

from allukan.errors import UserError

logging.getLogger("tifffile").addHandler(logging.NullHandler())  # damage ends in a UserError, not also in a line on stderr
_TIFF = (".tif", ".tiff")
_DAMAGE = (
    OSError,
    SyntaxError,
    ValueError,
    LookupError,
    EOFError,
    struct.error,
    zlib.error,
    tifffile.TiffFileError,
    Image.DecompressionBombError,
)
_GREY = ("1", "L", "LA", "La", "I", "F")  # and everything that starts with I;16
_CONVERTED = ("P", "PA", "CMYK", "YCbCr", "LAB", "HSV")
_MODES = {"1": "1 bit", "L": "grey", "LA": "grey with alpha", "P": "palette", "I": "32 bit grey", "F": "float grey"}


@dataclass(frozen=True)
class Decoded:
    """The content of a file.

    Attributes:
        values: as stored, ``(H, W)`` or ``(H, W, C)``, of any dtype.
        colours: RGB bytes ``(H, W, 3)`` where the values are indices into a palette or another colour space.
        inverted: the file says that 0 is white.
    """

    values: NDArray[Any]
    colours: NDArray[np.uint8] | None = None
    inverted: bool = False


def decode(path: Path) -> Decoded:
    """Read one file in the orientation that it asks for. Raises ``UserError`` for a file that is no single readable image."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return _tiff(path) if path.suffix.lower() in _TIFF else _other(path)
    except _DAMAGE as error:
        raise _unreadable(path, error) from None


def header(path: Path) -> tuple[int, str]:
    """Channels (1 grey, 3 colour) and kind of an image, without decoding it; ``UserError`` as in ``decode``."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if path.suffix.lower() in _TIFF:
                return _tiff_header(path)
            with Image.open(path) as image:
                mode = image.mode
    except _DAMAGE as error:
        raise _unreadable(path, error) from None
    if mode.startswith("I;16"):
        return 1, "16 bit grey"
    return (1 if mode in _GREY else 3), _MODES.get(mode, mode)


def _unreadable(path: Path, error: BaseException) -> UserError:
    if isinstance(error, UserError):
        return error
    if isinstance(error, FileNotFoundError):
        return UserError(f"{path} does not exist.")
    reason = " ".join(str(error).split()) or type(error).__name__
    return UserError(f"{path} cannot be read as an image ({reason}): replace or remove it.")


def _other(path: Path) -> Decoded:
    with Image.open(path) as opened:
        opened.load()
        image = ImageOps.exif_transpose(opened)
        colours = np.asarray(image.convert("RGB")) if image.mode in _CONVERTED else None
        return Decoded(np.asarray(image), colours)


def _tiff(path: Path) -> Decoded:
    with tifffile.TiffFile(path) as file:
        page = _page(file, path)
        inverted = page.photometric == tifffile.PHOTOMETRIC.MINISWHITE
        try:
            array = np.asarray(page.asarray())
        except ValueError:
            if inverted:  # PIL inverts some kinds of these and not others
                raise
            return _other(path)  # compressions such as LZW and JPEG, for which tifffile wants another package
        if array.ndim == 3 and page.planarconfig == 2:
            array = np.moveaxis(array, 0, -1)
        array = _upright(array, page.tags.valueof(274, default=1))
        colours = None if page.colormap is None else (np.moveaxis(page.colormap[:, array], 0, -1) >> 8).astype(np.uint8)
        return Decoded(array, colours, inverted)


def _tiff_header(path: Path) -> tuple[int, str]:
    with tifffile.TiffFile(path) as file:
        page = _page(file, path)
        if page.colormap is not None:
            return 3, "palette"
        colour = page.samplesperpixel > 2
        return (3 if colour else 1), f"{page.dtype} {'RGB' if colour else 'grey'}"


def _page(file: tifffile.TiffFile, path: Path) -> Any:
    """The first page; ``UserError`` when it is one of a stack, of which one slice alone would be wrong."""
    page, series = file.pages[0], file.series[0]
    if series.size > page.size:
        raise UserError(f"{path} is a stack of shape {series.shape}: expected is one 2D image, save its slices as files.")
    return page


def _upright(array: NDArray[Any], orientation: int) -> NDArray[Any]:
    """Undo the orientation tag of TIFF: 2 to 4 are mirrors and half turns, 5 to 8 swap height and width."""
    if orientation in (5, 6, 7, 8):
        array = np.swapaxes(array, 0, 1)
    rows = -1 if orientation in (3, 4, 7, 8) else 1
    columns = -1 if orientation in (2, 3, 6, 7) else 1
    return array[::rows, ::columns]
