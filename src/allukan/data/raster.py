"""JPEG, BMP and GIF to arrays, with Pillow, and what PNG has in common with them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.BmpImagePlugin import BmpImageFile
from PIL.GifImagePlugin import GifImageFile
from PIL.JpegImagePlugin import JpegImageFile

from allukan.data.pixels import Decoded, Header, check_size, upright
from allukan.errors import UserError

_ORIENTATION = 274
_KINDS = {"1": "1 bit", "L": "grey", "LA": "grey with alpha", "P": "palette", "I;16": "16 bit grey"}
_GREY = ("1", "L", "LA", "I;16")
_SIZES = {0xC0, 0xC1, 0xC2, 0xC3, 0xC5, 0xC6, 0xC7, 0xC9, 0xCA, 0xCB, 0xCD, 0xCE, 0xCF}  # markers that start a frame of JPEG


def jpeg_header(path: Path) -> Header:
    """What a JPEG promises; ``UserError`` for more than 8 bits."""
    _check_bits(path)
    with JpegImageFile(path) as image:
        return header_of(path, image)


def jpeg(path: Path) -> Decoded:
    """A JPEG of 8 bits: grey, colour or CMYK. Raises ``UserError`` for more bits, anything else for damage."""
    _check_bits(path)
    with JpegImageFile(path) as image:  # not Image.open, which has a pixel limit of its own
        return replace(decoded(path, image), lossy=True)


def bmp_header(path: Path) -> Header:
    """What a BMP promises."""
    with BmpImageFile(path) as image:
        return header_of(path, image)


def bmp(path: Path) -> Decoded:
    """A BMP: grey, palette, colour, with or without alpha."""
    with BmpImageFile(path) as image:
        return decoded(path, image)


def gif_header(path: Path) -> Header:
    """What a GIF promises; ``UserError`` for an animation."""
    with GifImageFile(path) as image:
        _check_frame(path, image)
        return Header(1, "grey") if _is_grey(image) else Header(3, "palette")


def gif(path: Path) -> Decoded:
    """A GIF of one frame: grey where its palette is, else in colour. What stands at which place of the palette says nothing."""
    with GifImageFile(path) as image:
        _check_frame(path, image)
        found, grey = decoded(path, image), _is_grey(image)
        shown = found.values if found.colours is None else found.colours
        clear = image.info.get("transparency") if image.mode == "L" else None
        opaque = found.opaque if clear is None else found.values[..., 0] != clear
        return Decoded(shown[..., :1] if grey else shown, opaque=opaque)


def _is_grey(image: GifImageFile) -> bool:
    palette = np.reshape(image.getpalette("RGB") or [], (-1, 3))
    return image.mode == "L" or bool((palette == palette[:, :1]).all())


def _check_frame(path: Path, image: GifImageFile) -> None:
    check_size(path, image.height, image.width)
    if image.n_frames > 1:
        raise UserError(f"{path} is an animation of {image.n_frames} frames: save one of them as PNG.")
    if image.tile and image.tile[0].extents != (0, 0, image.width, image.height):
        raise UserError(f"{path} is a GIF whose frame covers a part of it only: save it as PNG.")


def header_of(path: Path, image: Image.Image) -> Header:
    """The header of an image that Pillow has opened."""
    check_size(path, image.height, image.width)
    return Header(1 if image.mode in _GREY else 3, _KINDS.get(image.mode, image.mode))


def decoded(path: Path, image: Image.Image) -> Decoded:
    """The values of an image that Pillow has opened: colours for palettes and CMYK, alpha apart."""
    check_size(path, image.height, image.width)
    image.load()
    turn = image.getexif().get(_ORIENTATION, 1)
    values = np.asarray(image).reshape(image.height, image.width, -1)
    values, opaque = split_alpha(values) if image.mode in ("LA", "RGBA") else (values, None)
    if image.mode == "1":
        return Decoded(upright(values.astype(np.uint8), turn), white=1)
    colours = None
    if image.mode == "P":
        colours, opaque = _look_up(image, values[..., 0])
    elif image.mode == "CMYK":
        colours = np.asarray(image.convert("RGB"))
    return Decoded(
        upright(values, turn),
        colours if colours is None else upright(colours, turn),
        opaque if opaque is None else upright(opaque, turn),
    )


def split_alpha(values: NDArray[Any]) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """``(H, W, C + 1)`` whose last channel is alpha → values and where they are opaque."""
    return values[..., :-1], values[..., -1] > 0


def _look_up(image: Image.Image, index: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], NDArray[np.bool_] | None]:
    stored = image.getpalette("RGB") or []
    palette = np.zeros((256, 3), np.uint8)
    palette[: len(stored) // 3] = np.reshape(stored, (-1, 3))
    transparency = image.info.get("transparency")
    if transparency is None:
        return palette[index], None
    opaque = np.ones(256, bool)
    if isinstance(transparency, int):
        opaque[transparency] = False
    else:
        opaque[: len(transparency)] = np.frombuffer(transparency, np.uint8) > 0
    return palette[index], opaque[index]


def _check_bits(path: Path) -> None:
    """Refuse by name what Pillow would refuse in its own words."""
    with path.open("rb") as file:
        file.seek(2)
        while (start := file.read(4))[:1] == b"\xff" and len(start) == 4:
            if start[1] in _SIZES:
                bits = file.read(1)
                if bits not in (b"\x08", b""):
                    raise UserError(f"{path} is a JPEG of {bits[0]} bits, and only 8 are read: save it as 16-bit PNG or TIFF.")
                return
            file.seek(int.from_bytes(start[2:], "big") - 2, 1)
