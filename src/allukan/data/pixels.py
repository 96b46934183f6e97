"""What every decoder gives, and the one limit that all of them keep."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from allukan.errors import UserError

PIXEL_LIMIT = 150_000_000  # of up to four channels; Pillow refuses 179 million
CHANNEL_LIMIT = 256


@dataclass(frozen=True)
class Header:
    """What a file promises: channels without alpha (1 grey, 3 colour, or as many as there are), and its kind in words.

    ``deep`` where a byte does not hold them: more than 8 bits, a sign, fractions.
    """

    channels: int
    kind: str
    deep: bool = False


@dataclass(frozen=True)
class Decoded:
    """The content of a file, upright.

    Attributes:
        values: as stored, ``(H, W, C)`` without alpha; unsigned integers where the file holds bits.
        colours: RGB bytes ``(H, W, 3)`` where the values are indices into a palette or another colour space.
        opaque: ``(H, W)``, false where the file says that a pixel is wholly transparent; None where it says nothing.
        white: the highest value that 1 to 8 bits can hold.
        inverted: the file says that 0 is white.
        turned: the same of a file whose values are here with white above black already (DICOM, which bounds them itself).
        lossy: compressed as JPEG, which changes values.
    """

    values: NDArray[Any]
    colours: NDArray[np.uint8] | None = None
    opaque: NDArray[np.bool_] | None = None
    white: int = 255
    inverted: bool = False
    turned: bool = False
    lossy: bool = False


def turned(found: Decoded) -> NDArray[Any]:
    """``(H, W, C)``: colours where there are any, else the values with white above black, of floats within their own range."""
    values = found.values
    if found.colours is not None:
        return found.colours
    if not found.inverted:
        return values
    if values.dtype.kind == "f":
        return np.asarray(values.max() + values.min() - values)
    info = np.iinfo(values.dtype)
    return np.asarray((found.white if found.white < 255 else info.max + info.min) - values)


def check_size(path: Path, height: int, width: int, channels: int = 1) -> None:
    """Refuse what would not fit into the memory, before it is decoded. Raises ``UserError``."""
    if channels > CHANNEL_LIMIT:
        raise UserError(f"{path} has {channels} channels and at most {CHANNEL_LIMIT} are read: is it a stack?")
    if height * width * max(1.0, channels / 4) > PIXEL_LIMIT:
        pixels = f"{height}×{width} pixels" + (f" of {channels} channels" if channels > 4 else "")
        limit = f"{PIXEL_LIMIT // 1_000_000} million"
        raise UserError(f"{path} has {pixels} and at most {limit} are read: cut it into tiles or make it smaller.")


def upright(array: NDArray[Any], orientation: int) -> NDArray[Any]:
    """Undo an orientation of EXIF or TIFF: 2 to 4 are mirrors and half turns, 5 to 8 swap height and width."""
    if orientation in (5, 6, 7, 8):
        array = np.swapaxes(array, 0, 1)
    rows = -1 if orientation in (3, 4, 7, 8) else 1
    columns = -1 if orientation in (2, 3, 6, 7) else 1
    return np.ascontiguousarray(array[::rows, ::columns])
