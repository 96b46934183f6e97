"""TIFF to arrays, with tifffile and the codecs of imagecodecs alone: a second reader would be a second opinion."""

from __future__ import annotations

import logging
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image
from tifffile import COMPRESSION, PHOTOMETRIC

from allukan.data.pixels import Decoded, Header, check_size, upright
from allukan.errors import UserError

logging.getLogger("tifffile").addHandler(logging.NullHandler())  # damage ends in a UserError, not also in a line on stderr
COMPRESSIONS = {  # number in the file: name in messages and docs
    1: "none",
    2: "CCITT RLE",
    3: "CCITT G3",
    4: "CCITT G4",
    5: "LZW",
    7: "JPEG",
    8: "zlib",
    32946: "zlib",
    32773: "PackBits",
    34712: "JPEG 2000",
    34887: "LERC",
    34925: "LZMA",
    34933: "PNG",
    50000: "zstd",
    50001: "WebP",
    50002: "JPEG XL",
}
_PREDICTED = (5, 8, 32946, 34925, 50000)  # with others some readers apply a predictor and some do not
_AUXILIARY = 1 | 4  # bits of NewSubfileType: smaller copy, transparency mask
_ALPHA = (1, 2)  # ExtraSamples: premultiplied or not
_ORIENTATION, _EXTRA_INKS = 274, 332


def header(path: Path) -> Header:
    """What a TIFF promises; ``UserError`` for a stack and for what is not read, by name."""
    with tifffile.TiffFile(path) as file:
        page = _page(file, path)
        channels = len(_channels(page))
        if page.photometric in (PHOTOMETRIC.PALETTE, PHOTOMETRIC.SEPARATED):
            return Header(3, "palette" if channels == 1 else "CMYK")
        depth = str(page.dtype) if page.bitspersample in (8, 16, 32, 64) else f"{page.bitspersample} bit"
        kind = {1: "grey", 3: "RGB"}.get(channels, f"{channels} channels")
        return Header(channels, f"{depth} {kind}", deep=page.bitspersample > 8 or page.dtype.kind in "if")


def decode(path: Path) -> Decoded:
    """The one image of a TIFF. Raises ``UserError`` as ``header`` does, anything else for damage."""
    with tifffile.TiffFile(path) as file:
        page = _page(file, path)
        _check_whole(file, page)
        stored = page.asarray(squeeze=False, maxworkers=1)  # planes, depth, height, width, samples; callers have threads
        array = np.concatenate(list(stored[:, 0]), axis=-1)
        array = upright(array, page.tags.valueof(_ORIENTATION, default=1))
        values = array[..., _channels(page)]
        alpha = np.delete(array, _channels(page), axis=-1) > 0
        return Decoded(
            values.astype(np.uint8) if values.dtype == bool else values,
            _colours(page, values),
            np.asarray(alpha.all(2)) if alpha.size else None,
            white=2**page.bitspersample - 1 if page.bitspersample < 8 else 255,
            inverted=page.photometric == PHOTOMETRIC.MINISWHITE,
            lossy=page.compression == COMPRESSION.JPEG,
        )


def _page(file: tifffile.TiffFile, path: Path) -> Any:
    """The one page that is no smaller copy of another, checked; ``UserError`` for several, of which one alone would be wrong."""
    pages = [page for page in file.pages if not page.subfiletype & _AUXILIARY]
    if not pages and file.pages[0].pages:
        pages = [page for page in file.pages[0].pages if not page.subfiletype & _AUXILIARY]
    if not pages:
        raise UserError(f"{path} holds smaller copies of an image and not the image: save it again as one 2D image.")
    page = pages[0]
    shape = next((series.shape for series in file.series if series.keyframe.offset == page.offset), page.shape)
    if prod(shape) > page.size:
        raise UserError(f"{path} is a stack of shape {shape}: expected is one 2D image, save its slices as files.")
    if not all(_is_thumbnail(other, page) for other in pages[1:]):
        raise UserError(f"{path} holds {len(pages)} images: expected is one 2D image, save them as files.")
    check_kind(page, path)
    return page


def _is_thumbnail(page: Any, of: Any) -> bool:
    """Programs that write a preview as a further page do not always say so."""
    return page.imagelength * 2 <= of.imagelength and page.imagewidth * 2 <= of.imagewidth


def check_kind(page: Any, path: Path) -> None:
    """Raises ``UserError`` for a page that is too large or of a kind that is not read, by name."""
    if page.imagedepth != 1:
        raise UserError(f"{path} is a stack of depth {page.imagedepth}: expected is one 2D image, save its slices as files.")
    check_size(path, page.imagelength, page.imagewidth, page.samplesperpixel)
    if page.is_tiled:
        check_size(path, page.tilelength, page.tilewidth, page.samplesperpixel)
    refused = _refused(page)
    if refused:
        raise UserError(f"{path} is a TIFF {refused}, which is not read: save it again as plain grey or RGB with zlib.")


def _refused(page: Any) -> str:
    """What about a page is not read; empty for a good one."""
    compression, photometric, bits = page.compression, page.photometric, page.bitspersample
    if compression not in COMPRESSIONS:
        return f"compressed with {_name(COMPRESSION, compression)}"
    if page.dtype is None or page.dtype.kind not in "buif" or not isinstance(bits, int):
        return f"of {bits} bits and sample format {_name(tifffile.SAMPLEFORMAT, page.sampleformat)}"
    if page.predictor != 1 and (compression not in _PREDICTED or bits not in (8, 16, 32, 64)):
        return f"of {bits} bits with predictor {page.predictor} and compression {COMPRESSIONS[compression]}"
    return _refused_colours(page, photometric, len(_channels(page)))


def _refused_colours(page: Any, photometric: int, channels: int) -> str:
    as_bytes = page.dtype == np.uint8 and page.bitspersample == 8
    good = {
        PHOTOMETRIC.MINISWHITE: channels > 0,
        PHOTOMETRIC.MINISBLACK: channels > 0,
        PHOTOMETRIC.RGB: channels > 2,
        PHOTOMETRIC.PALETTE: channels == 1 and page.colormap is not None and page.dtype.kind in "bu",
        PHOTOMETRIC.SEPARATED: channels == 4 and as_bytes and page.tags.valueof(_EXTRA_INKS, default=1) == 1,
        PHOTOMETRIC.YCBCR: channels == 3 and page.compression == COMPRESSION.JPEG,  # which its codec turns into RGB
    }
    if good.get(photometric, False):
        return ""
    compression = COMPRESSIONS[page.compression]
    return f"of {channels} {_name(PHOTOMETRIC, photometric)} channels of {page.bitspersample} bits (compression: {compression})"


def _channels(page: Any) -> list[int]:
    """Positions of the samples that are no alpha: only what the file says is alpha is alpha."""
    extra = page.extrasamples
    first = page.samplesperpixel - len(extra)
    return [i for i in range(page.samplesperpixel) if i < first or int(extra[i - first]) not in _ALPHA]


def _colours(page: Any, values: NDArray[Any]) -> NDArray[np.uint8] | None:
    if page.photometric == PHOTOMETRIC.PALETTE:
        table = page.colormap.T if page.colormap.max() < 256 else page.colormap.T >> 8  # some programs write bytes into 16 bits
        return table.astype(np.uint8)[values[..., 0].astype(np.intp)]
    if page.photometric == PHOTOMETRIC.SEPARATED:
        image = Image.frombytes("CMYK", values.shape[1::-1], np.ascontiguousarray(values).tobytes())
        return np.asarray(image.convert("RGB"))
    return None


def _check_whole(file: tifffile.TiffFile, page: Any) -> None:
    """Raises ``ValueError`` where a part of the image is missing: tifffile and the JPEG library would fill it with grey."""
    parts, end = list(zip(page.dataoffsets, page.databytecounts, strict=True)), file.filehandle.size
    if not page.is_contiguous and len(parts) < prod(page.chunked):
        raise ValueError(f"{prod(page.chunked) - len(parts)} parts of the image are missing")
    if any(offset == 0 or count == 0 or offset + count > end for offset, count in parts):
        raise ValueError("a part of the image is missing or cut off")
    if page.compression == COMPRESSION.JPEG:
        for data, _ in file.filehandle.read_segments(page.dataoffsets, page.databytecounts):
            if data is None or not data.rstrip(b"\0").endswith(b"\xff\xd9"):
                raise ValueError("a part of the JPEG image is cut off")


def _name(kind: Any, number: Any) -> str:
    try:
        return kind(number).name
    except ValueError:
        return f"number {number}"
