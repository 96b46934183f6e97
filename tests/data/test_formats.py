"""The matrix of what is read: every file written by one program, its pixels compared with the array that went in.

The table of docs/formats.md is made of the same data; ``RENEW_FORMATS=1 python -m pytest tests/data/test_formats.py`` writes it.
"""

import os
from itertools import product
from pathlib import Path

import imagecodecs
import numpy as np
import png
import pytest
import tifffile
from PIL import Image

from allukan.data import IMAGE_SUFFIXES, read_image
from allukan.data.decode import decode, header, is_deep
from allukan.data.masks import read_labels
from allukan.data.pixels import CHANNEL_LIMIT, PIXEL_LIMIT
from allukan.errors import UserError

PAGE = Path(__file__).parents[2] / "docs" / "formats.md"
H, W = 20, 30
NUMBERS = ("uint8", "uint16", "uint32", "int8", "int16", "int32", "float16", "float32", "float64")
PACKED = (1, 2, 3, 4, 6, 10, 12, 14)
LOSSLESS = ("none", "LZW", "zlib", "PackBits", "LZMA", "zstd")
PREDICTED = ("LZW", "zlib", "LZMA", "zstd")
CHANNELS = (1, 2, 3, 4, 5, 8)
LAYOUTS = {"strips": {"rowsperstrip": 7}, "tiles": {"tile": (16, 16)}, "planes": {"rowsperstrip": 7, "planarconfig": "separate"}}
PICTURES = {  # codecs of whole pictures in TIFF: what they can hold, and how they are written without loss
    "JPEG 2000": ("jpeg2000", ("uint8", "uint16"), (1, 3), {}),
    "LERC": ("lerc", ("uint8", "uint16", "float32"), (1, 3), {}),
    "PNG": ("png", ("uint8", "uint16"), (1, 3), {}),
    "WebP": ("webp", ("uint8",), (3,), {"lossless": True}),
    "JPEG XL": ("jpegxl", ("uint8", "uint16"), (1, 3), {"lossless": True}),
}
PNG_KINDS = {"grey": (1, (1, 2, 4, 8, 16)), "grey with alpha": (2, (8, 16)), "RGB": (3, (8, 16)), "RGBA": (4, (8, 16))}
PALETTE_BITS = (1, 2, 4, 8)


def numbers(dtype, channels=1, seed=0):
    """Random values over the whole range of a type, ``(H, W, channels)``."""
    random = np.random.default_rng(seed)
    if np.dtype(dtype).kind == "f":
        return random.normal(0, 100, (H, W, channels)).astype(dtype)
    info = np.iinfo(dtype)
    return random.integers(info.min, info.max, (H, W, channels), dtype=dtype, endpoint=True)


def bits(count, channels=1):
    return np.random.default_rng(count).integers(0, 2**count, (H, W, channels)).astype(np.uint8 if count <= 8 else np.uint16)


def write_tiff(path, array, compression="none", planarconfig="contig", **more):
    """With everything said: nothing is guessed by the writer."""
    photometric = more.pop("photometric", "rgb" if array.shape[2] == 3 else "minisblack")
    extra = more.pop("extrasamples", [0] * (array.shape[2] - (3 if photometric == "rgb" else 1)))
    stored = np.moveaxis(array, -1, 0) if planarconfig == "separate" else array
    if array.shape[2] == 1:
        stored, planarconfig = array[..., 0], None
    tifffile.imwrite(
        path,
        stored,
        photometric=photometric,
        planarconfig=planarconfig,
        extrasamples=extra or None,
        compression=None if compression == "none" else compression.lower(),
        **more,
    )
    return path


def check(path, array, *, white=255):
    """The pixels of ``path`` are ``array``, its header says so, and the bytes for a model follow from the rule."""
    found = decode(path)
    assert found.values.dtype.newbyteorder("=") == array.dtype.newbyteorder("=")
    assert np.array_equal(found.values, array)
    assert found.white == white
    image = read_image([path])
    assert header(path)[0] == image.shape[2] == array.shape[2]
    assert np.array_equal(image, expected_bytes(array, white))
    assert is_deep(path) == (array.dtype != np.uint8)


def expected_bytes(array, white):
    if array.dtype == np.uint8:
        return np.floor(array.astype(float) * 255 / white + 0.5).astype(np.uint8)
    low, high = np.quantile(array.astype(np.float64), [0.005, 0.995])
    return np.rint((np.clip(array.astype(np.float64), low, high) - low) / (high - low) * 255).astype(np.uint8)


def libtiff(path, array, planes=False):
    """What libtiff reads, which shares no line with tifffile."""
    found = imagecodecs.tiff_decode(path.read_bytes())
    found = np.moveaxis(found, 0, -1) if planes and found.ndim == 3 else found
    return found.astype(array.dtype).reshape(array.shape)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("compression", LOSSLESS)
@pytest.mark.parametrize("dtype", NUMBERS)
def test_tiff(tmp_path, dtype, compression, layout):
    for channels in CHANNELS:
        array = numbers(dtype, channels)
        path = write_tiff(tmp_path / "x.tif", array, compression, **LAYOUTS[layout])
        check(path, array)
        assert np.array_equal(libtiff(path, array, layout == "planes"), array)


@pytest.mark.parametrize("dtype", NUMBERS)
@pytest.mark.parametrize("compression", PREDICTED)
def test_tiff_with_predictor_of_either_endianness_and_size(tmp_path, compression, dtype):
    for byteorder, bigtiff, channels in product("<>", (False, True), (1, 3)):
        array = numbers(dtype, channels)
        predictor = 3 if dtype.startswith("float") else 2
        path = write_tiff(
            tmp_path / "x.tif", array, compression, predictor=predictor, byteorder=byteorder, bigtiff=bigtiff, rowsperstrip=7
        )
        check(path, array)
        assert np.array_equal(libtiff(path, array), array)


@pytest.mark.parametrize("count", PACKED)
def test_tiff_of_packed_bits(tmp_path, count):
    array = bits(count)
    stored, more = (array.astype(bool), {}) if count == 1 else (array, {"bitspersample": count})
    path = write_tiff(tmp_path / "x.tif", stored, **more)
    check(path, array, white=2**count - 1 if count < 8 else 255)
    assert np.array_equal(libtiff(path, array), array)


@pytest.mark.parametrize("codec", PICTURES)
def test_tiff_of_pictures(tmp_path, codec):
    name, dtypes, channels, arguments = PICTURES[codec]
    for dtype, count in product(dtypes, channels):
        array = numbers(dtype, count)
        check(write_tiff(tmp_path / "x.tif", array, name, compressionargs=arguments, rowsperstrip=16), array)


@pytest.mark.parametrize("compression", ["tiff_lzw", "tiff_adobe_deflate", "packbits", "tiff_lzma", "zstd", None])
def test_tiff_of_libtiff(tmp_path, compression):
    """Written by Pillow, through libtiff."""
    path = tmp_path / "x.tif"
    for array in (numbers("uint8", 1), numbers("uint8", 3), numbers("uint16", 1), numbers("int32", 1)):
        Image.fromarray(array.squeeze()).save(path, compression=compression)
        check(path, array)
    rgba = numbers("uint8", 4)
    Image.fromarray(rgba).save(path, compression=compression)
    check(path, rgba[..., :3])
    assert np.array_equal(decode(path).opaque, rgba[..., 3] > 0)


@pytest.mark.parametrize("compression", ["tiff_ccitt", "group3", "group4"])
def test_tiff_of_faxes(tmp_path, compression):
    array = bits(1)
    Image.fromarray(array[..., 0] > 0).save(tmp_path / "x.tif", compression=compression)
    with tifffile.TiffFile(tmp_path / "x.tif") as file:
        white = file.pages[0].photometric == tifffile.PHOTOMETRIC.MINISWHITE
    assert np.array_equal(decode(tmp_path / "x.tif").values, array ^ np.uint8(white))
    assert np.array_equal(read_image([tmp_path / "x.tif"]), array * 255)


def smooth(channels):
    y, x = np.mgrid[:64, :80]
    return np.stack([(y * 2 + x + 40 * c) % 200 + 20 for c in range(channels)], -1).astype(np.uint8)


@pytest.mark.parametrize("more", [{}, {"progressive": True}, {"subsampling": 0}, {"optimize": True}])
@pytest.mark.parametrize("channels", [1, 3])
def test_jpeg_and_jpeg_in_tiff(tmp_path, channels, more):
    array = smooth(channels)
    Image.fromarray(array.squeeze()).save(tmp_path / "x.jpg", quality=100, **more)
    found = read_image([tmp_path / "x.jpg"])
    other = imagecodecs.jpeg_decode((tmp_path / "x.jpg").read_bytes()).reshape(array.shape)
    assert np.abs(found.astype(int) - other).max() <= 1
    assert np.abs(found.astype(int) - array).mean() < 3
    assert header(tmp_path / "x.jpg")[0] == channels
    write_tiff(tmp_path / "x.tif", array, "jpeg", compressionargs={"level": 100}, rowsperstrip=16)
    assert np.abs(read_image([tmp_path / "x.tif"]).astype(int) - array).mean() < 3
    assert header(tmp_path / "x.tif")[0] == channels


@pytest.mark.parametrize("compression", ["tiff_lzw", "tiff_adobe_deflate", "packbits", "tiff_lzma", "zstd", None])
def test_cmyk(tmp_path, compression):
    """Of JPEG (Adobe stores it inverted) and TIFF: white paper is white, and no ink is taken for a colour."""
    inks = np.zeros((64, 80, 4), np.uint8)
    inks[:32, :, 0], inks[32:, 40:, 3] = 255, 255
    rgb = np.array([[[0, 255, 255]] * 80] * 32 + [[[255] * 3] * 40 + [[0] * 3] * 40] * 32, np.uint8)
    Image.frombytes("CMYK", (80, 64), inks.tobytes()).save(tmp_path / "x.jpg", quality=100)
    Image.frombytes("CMYK", (80, 64), inks.tobytes()).save(tmp_path / "x.tif", compression=compression)
    for path, tolerance in ((tmp_path / "x.jpg", 4), (tmp_path / "x.tif", 0)):
        assert np.abs(read_image([path]).astype(int) - rgb).max() <= tolerance
        assert header(path) == (3, "CMYK")


@pytest.mark.parametrize("interlace", [False, True], ids=["plain", "interlaced"])
@pytest.mark.parametrize("kind", PNG_KINDS)
def test_png(tmp_path, kind, interlace):
    channels, depths = PNG_KINDS[kind]
    path = tmp_path / "x.png"
    for depth in depths:
        if interlace and depth == 16 and channels > 1:
            continue  # refused, see below
        array = bits(depth, channels)
        write_png(path, array, depth, interlace=interlace, gamma=0.4)
        values = array if channels in (1, 3) else array[..., :-1]
        check(path, values, white=2**depth - 1 if depth < 8 else 255)
        if channels in (2, 4):
            assert np.array_equal(decode(path).opaque, array[..., -1] > 0)


def write_png(path, array, depth=8, **more):
    channels = array.shape[2]
    with path.open("wb") as file:
        colour = {"greyscale": channels < 3, "alpha": channels in (2, 4)} if "palette" not in more else {}
        png.Writer(W, H, bitdepth=depth, **colour, **more).write(file, array.reshape(H, -1).tolist())
    return path


@pytest.mark.parametrize("depth", PALETTE_BITS)
def test_palettes_of_png(tmp_path, depth):
    random, index = np.random.default_rng(1), bits(depth)
    palette = random.integers(0, 256, (2**depth, 4), dtype=np.uint8)
    path = write_png(tmp_path / "x.png", index, depth, palette=[tuple(map(int, entry)) for entry in palette])
    found = decode(path)
    assert np.array_equal(found.values, index)
    assert np.array_equal(found.opaque, palette[index[..., 0], 3] > 0)
    assert np.array_equal(read_image([path]), palette[index[..., 0], :3])
    assert header(path) == (3, "palette")


@pytest.mark.parametrize("depth", [1, 2, 4, 8, 16])
def test_the_transparent_value_of_png(tmp_path, depth):
    for channels in (1,) if depth < 8 else (1, 3):
        array = bits(depth, channels)
        value = array[3, 4].tolist()
        write_png(tmp_path / "x.png", array, depth, transparent=value[0] if channels == 1 else tuple(value))
        check(tmp_path / "x.png", array, white=2**depth - 1 if depth < 8 else 255)
        assert np.array_equal(decode(tmp_path / "x.png").opaque, (array != value).any(2))


@pytest.mark.parametrize("compression", LOSSLESS)
@pytest.mark.parametrize("depth", [8, 16])
@pytest.mark.parametrize("high", [True, False], ids=["16 bit colours", "bytes in 16 bits"])
def test_palettes_of_tiff(tmp_path, depth, high, compression):
    random = np.random.default_rng(1)
    index = bits(depth)
    palette = random.integers(0, 65536 if high else 256, (3, 2**depth), dtype=np.uint16)
    write_tiff(tmp_path / "x.tif", index, compression, photometric="palette", colormap=palette)
    assert np.array_equal(decode(tmp_path / "x.tif").values, index)
    assert np.array_equal(read_image([tmp_path / "x.tif"]), np.moveaxis((palette >> (8 * high))[:, index[..., 0]], 0, -1))
    assert header(tmp_path / "x.tif") == (3, "palette")


def test_bmp(tmp_path):
    path = tmp_path / "x.bmp"
    for array in (numbers("uint8", 1), numbers("uint8", 3)):
        Image.fromarray(array.squeeze()).save(path)
        check(path, array)
    Image.fromarray(bits(1)[..., 0] > 0).save(path)
    check(path, bits(1), white=1)
    image = Image.fromarray(numbers("uint8", 3)).quantize(16)
    image.save(path)
    assert np.array_equal(read_image([path]), np.asarray(image.convert("RGB")))
    rgba = numbers("uint8", 4)
    Image.fromarray(rgba).save(path)
    check(path, rgba[..., :3])


@pytest.mark.parametrize("alpha", [0, 1, 2], ids=["unspecified", "premultiplied", "alpha"])
@pytest.mark.parametrize("photometric", ["minisblack", "rgb"])
@pytest.mark.parametrize("planarconfig", ["contig", "separate"])
def test_only_what_a_tiff_calls_alpha_is_alpha(tmp_path, alpha, photometric, planarconfig):
    array = numbers("uint8", 4 if photometric == "rgb" else 2)
    array[5:9, :, -1] = 0
    path = write_tiff(
        tmp_path / "x.tif", array, photometric=photometric, extrasamples=[alpha], planarconfig=planarconfig, rowsperstrip=7
    )
    check(path, array[..., :-1] if alpha else array)
    assert (decode(path).opaque is None) == (alpha == 0)
    assert not alpha or np.array_equal(decode(path).opaque, array[..., -1] > 0)


def test_alpha_between_other_channels(tmp_path):
    array = numbers("uint16", 6)
    check(write_tiff(tmp_path / "x.tif", array, photometric="rgb", extrasamples=[0, 2, 0]), array[..., [0, 1, 2, 3, 5]])


@pytest.mark.parametrize("content", ["PNG", "JPEG", "BMP", "GIF", "TIFF"])
@pytest.mark.parametrize("suffix", ["png", "jpg", "bmp", "gif", "tif"])
def test_the_content_tells_what_a_file_is(tmp_path, content, suffix):
    Image.fromarray(numbers("uint8", 3)).save(tmp_path / "right", format=content)
    (tmp_path / f"x.{suffix}").write_bytes((tmp_path / "right").read_bytes())
    assert np.array_equal(read_image([tmp_path / f"x.{suffix}"]), read_image([tmp_path / "right"]))
    assert header(tmp_path / f"x.{suffix}") == header(tmp_path / "right")
    if content not in ("JPEG", "GIF"):  # which has 256 colours
        assert np.array_equal(read_image([tmp_path / f"x.{suffix}"]), numbers("uint8", 3))


@pytest.mark.parametrize("optimize", [False, True])
def test_gif(tmp_path, optimize):
    """Grey by its values, whatever the order of its palette, as the vessels of DRIVE; in colour it is no label map."""
    path = tmp_path / "x.gif"
    for values in (numbers("uint8", 1)[..., 0], numbers("uint8", 1)[..., 0] // 128 * np.uint8(255)):
        Image.fromarray(values).save(path, optimize=optimize)
        check(path, values[..., None])
        assert np.array_equal(read_labels(path), values)
        Image.fromarray(values).save(path, optimize=optimize, transparency=0)
        assert np.array_equal(decode(path).opaque, values != 0)
    index = numbers("uint8", 1)[..., 0] % 4
    image = Image.fromarray(index, mode="P")
    image.putpalette([0, 0, 0, 255, 0, 0, 0, 255, 0, 9, 8, 7])
    image.save(path, optimize=optimize)
    check(path, np.array([[0, 0, 0], [255, 0, 0], [0, 255, 0], [9, 8, 7]], np.uint8)[index])
    with pytest.raises(UserError, match="is coloured: store the number of the class"):
        read_labels(path)


def test_a_white_palette_of_a_gif_does_not_turn_the_mask(tmp_path):
    image = Image.fromarray(np.array([[0, 1, 1]], np.uint8), mode="P")
    image.putpalette([255, 255, 255, 0, 0, 0])
    image.save(tmp_path / "x.gif", optimize=False)
    assert read_labels(tmp_path / "x.gif").tolist() == [[255, 0, 0]]


def test_masks_of_transparency_are_no_second_image(tmp_path):
    array = numbers("uint8", 3)
    with tifffile.TiffWriter(tmp_path / "x.tif") as file:
        file.write(array, photometric="rgb", metadata=None)
        file.write(array[..., 0] > 9, photometric="minisblack", subfiletype=4, metadata=None)
    check(tmp_path / "x.tif", array)


def test_ome_tiff_with_thumbnail_and_pyramid(tmp_path):
    """The one full image is read: not a smaller copy before, after or below it."""
    array, small = numbers("uint16", 3), numbers("uint16", 3)[::2, ::2] // 2
    rgb = {"photometric": "rgb"}
    with tifffile.TiffWriter(tmp_path / "x.ome.tif", ome=True) as file:
        file.write(array, subifds=1, **rgb)
        file.write(small, subfiletype=1, **rgb)
        file.write(small[:5, :6], **rgb)
    with tifffile.TiffWriter(tmp_path / "unsaid.tif") as file:
        file.write(array, metadata=None, **rgb)
        file.write(small, metadata=None, **rgb)
    with tifffile.TiffWriter(tmp_path / "first.tif") as file:
        file.write(small, subfiletype=1, metadata=None, **rgb)
        file.write(array, metadata=None, **rgb)
    with tifffile.TiffWriter(tmp_path / "below.tif") as file:
        file.write(small, subfiletype=1, subifds=1, metadata=None, **rgb)
        file.write(array, metadata=None, **rgb)
    for name in ("x.ome.tif", "unsaid.tif", "first.tif", "below.tif"):
        check(tmp_path / name, array)


def tables():
    """The tables of the page, by the name of their mark."""
    several = ", ".join
    rows = [
        ("PNG", "grey", several(map(str, PNG_KINDS["grey"][1])), "1", "interlaced too"),
        ("PNG", "RGB", several(map(str, PNG_KINDS["RGB"][1])), "3", "interlaced up to 8 bits"),
        ("PNG", "grey or RGB with alpha", several(map(str, PNG_KINDS["RGBA"][1])), "1 or 3", "interlaced up to 8 bits"),
        ("PNG", "palette", several(map(str, PALETTE_BITS)), "3 (mask: the index)", "interlaced too"),
        ("JPEG", "grey, RGB, CMYK", "8", "1, 3, 3", "baseline, progressive"),
        ("GIF", "grey, colour", "8", "1, 3", "one frame"),
        ("BMP", "1 bit, grey, palette, RGB, RGBA", "1, 4, 8", "1 or 3", "none"),
        ("TIFF, BigTIFF", "numbers", several(NUMBERS), f"{several(map(str, CHANNELS))} … {CHANNEL_LIMIT}", several(LOSSLESS)),
        ("TIFF", "packed bits", several(map(str, PACKED)), "1", "none (1 bit: CCITT RLE, G3, G4 too)"),
        ("TIFF", "palette", "8, 16", "3 (mask: the index)", "as numbers"),
        ("TIFF", "CMYK", "8", "3", "as numbers"),
        ("TIFF", "JPEG", "8", "1, 3", "JPEG"),
    ]
    rows += [("TIFF", name, several(dtypes), several(map(str, n)), name) for name, (_, dtypes, n, _) in PICTURES.items()]
    return [("file", "holds", "bits or type", "channels", "compression"), *rows]


def test_the_page_holds_the_matrix():
    head, *rows = tables()
    lines = ["| " + " | ".join(row) + " |" for row in (head, ["---"] * len(head), *rows)]
    start, end = "<!-- matrix: written by tests/data/test_formats.py -->\n", "<!-- end of the matrix -->"
    text = PAGE.read_text(encoding="utf-8")
    before, after = text.split(start)[0], text.split(end)[1]
    renewed = before + start + "\n" + "\n".join(lines) + "\n\n" + end + after
    if os.environ.get("RENEW_FORMATS"):
        PAGE.write_text(renewed, encoding="utf-8")
    assert PAGE.read_text(encoding="utf-8") == renewed
    assert f"{PIXEL_LIMIT // 1_000_000} million" in text
    assert all(f"`{suffix}`" in text for suffix in IMAGE_SUFFIXES)
