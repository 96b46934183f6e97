"""What a header may claim before memory is taken, and which extra dimensions are channels."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from pathlib import Path

from allukan.errors import UserError

VALUE_LIMIT = 2**32  # voxels times channels: 1600³
_DEFLATE = 1032  # the most that zlib can pack into a byte


def check_claim(path: Path, shape: Sequence[int], itemsize: int, stored: int, *, packed: bool) -> None:
    """Raises ``UserError`` where ``stored`` bytes, packed by zlib or not, cannot hold an array, or where that is too large.

    >>> check_claim(Path("a.nii"), (10, 10, 10), 2, 50, packed=False)
    Traceback (most recent call last):
    ...
    allukan.errors.UserError: a.nii is cut short or its header is wrong: it claims 10×10×10 values of 2 bytes and holds 50 bytes.
    """
    claimed = prod(shape)
    size = "×".join(map(str, shape))
    if min(shape) < 1:
        raise UserError(f"{path} holds no voxels (its header says {size}): replace or remove it.")
    if claimed * itemsize > stored * (_DEFLATE if packed else 1):
        holds = f"{stored} packed bytes" if packed else f"{stored} bytes"
        raise UserError(
            f"{path} is cut short or its header is wrong: it claims {size} values of {itemsize} bytes and holds {holds}."
        )
    if claimed > VALUE_LIMIT:
        raise UserError(f"{path} has {size} values and at most {VALUE_LIMIT // 10**6} million are read: cut it into parts.")


def check_channels(path: Path, found: int, channels: int | None, what: str) -> None:
    """Several volumes in one file are channels only where the caller says how many: they may as well be a time series.

    Raises ``UserError`` where ``found`` volumes are not what was asked for; ``what`` says what they are in the file.
    """
    if channels is None and found > 1:
        raise UserError(
            f"{path} holds {found} volumes ({what}), which may be a time series: name them as channels in dataset.json, or "
            "save one volume a file."
        )
    if channels is not None and found != channels:
        raise UserError(f"{path} holds {found} channel{'' if found == 1 else 's'} and {channels} are expected.")
