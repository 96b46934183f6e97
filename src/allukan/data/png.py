"""PNG to arrays: with Pillow, but 16 bits in colour or with alpha, of which Pillow drops half, with imagecodecs."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL.PngImagePlugin import PngImageFile

from allukan.data.pixels import Decoded, Header, check_size, upright
from allukan.data.raster import decoded, header_of, split_alpha
from allukan.errors import UserError

_NAMES = {0: "grey", 2: "RGB", 3: "palette", 4: "grey with alpha", 6: "RGBA"}


def header(path: Path) -> Header:
    """What a PNG promises; ``UserError`` for an animation."""
    bits, colour, _ = _check(path, whole=False)
    with PngImageFile(path) as image:
        found = header_of(path, image)
    channels = 1 if colour in (0, 4) else 3
    return Header(channels, f"16 bit {_NAMES[colour]}", deep=True) if bits == 16 else replace(found, channels=channels)


def decode(path: Path) -> Decoded:
    """A PNG of any bits, its values as stored: neither gamma nor profile is applied. ``UserError`` as in ``header``."""
    bits, colour, transparent = _check(path, whole=True)
    with PngImageFile(path) as image:
        if bits == 16 and colour != 0:
            return _deep(path, image)
        found = decoded(path, image)
    if colour == 0 and bits < 8:
        found = replace(found, values=found.values // (found.white // (2**bits - 1)), white=2**bits - 1)
    if transparent and colour in (0, 2):
        found = replace(found, opaque=(found.values != transparent).any(2))
    return found


def _deep(path: Path, image: PngImageFile) -> Decoded:
    import imagecodecs

    turn = image.getexif().get(274, 1)
    values = np.atleast_3d(imagecodecs.png_decode(path.read_bytes()))
    values, opaque = split_alpha(values) if values.shape[2] in (2, 4) else (values, None)
    return Decoded(upright(values, turn), opaque=opaque if opaque is None else upright(opaque, turn))


def _check(path: Path, whole: bool) -> tuple[int, int, tuple[int, ...]]:
    """Bits, kind of colour and the value that is transparent; with ``whole`` every checksum is compared, to the end."""
    bits, colour, transparent = 0, 0, ()
    with path.open("rb") as file:
        file.seek(8)
        for name, content in _chunks(file, whole):
            if name == b"IHDR":
                width, height, bits, colour, interlaced = struct.unpack(">IIBBxxB", content)
                check_size(path, height, width)
                if interlaced and bits == 16 and colour != 0:  # imagecodecs writes lines on stderr that no caller can silence
                    raise UserError(f"{path} is an interlaced PNG of 16 bits in colour, which is not read: save it plain.")
            elif name == b"tRNS" and colour in (0, 2):
                transparent = struct.unpack(f">{len(content) // 2}H", content)
            elif name == b"acTL" and (frames := struct.unpack(">I", content[:4])[0]) > 1:
                raise UserError(f"{path} is an animation of {frames} frames: expected is one 2D image, save them as files.")
    if colour not in _NAMES:
        raise ValueError(f"no PNG has the kind of colour {colour}")
    return bits, colour, transparent


def _chunks(file: BinaryIO, whole: bool) -> Iterator[tuple[bytes, bytes]]:
    """Chunks up to the first of the image, or to the end; Pillow itself compares no checksum of the image."""
    while True:
        length, name = struct.unpack(">I4s", file.read(8))
        if name == b"IDAT" and not whole:
            return
        content, checksum = file.read(length), file.read(4)
        if len(content) < length or zlib.crc32(name + content).to_bytes(4, "big") != checksum:
            raise ValueError(f"its part {name.decode('ascii', 'replace')} is damaged or cut off")
        yield name, content
        if name == b"IEND":
            return
