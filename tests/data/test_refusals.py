"""What is not read ends in one sentence that names it, from header and reader alike; damage never in a picture of grey bars."""

import struct
import zlib

import imagecodecs
import numpy as np
import png
import pytest
import tifffile
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image

from allukan.data import open_dataset, read_image, read_masks
from allukan.data.decode import header
from allukan.data.masks import read_labels
from allukan.errors import UserError

GREY = np.random.default_rng(0).integers(0, 256, (64, 48), dtype=np.uint8)
RGB = np.random.default_rng(1).integers(0, 256, (64, 48, 3), dtype=np.uint8)
DEEP = RGB.astype(np.uint16) * 257


def attempt(path, read=lambda path: read_image([path])):
    """What ``read`` gives, or its sentence, which names the file in one line."""
    try:
        return read(path), ""
    except UserError as error:
        return None, str(error)


def tiff(array, **more):
    return lambda path: tifffile.imwrite(path, array, **{"photometric": "rgb" if array.ndim == 3 else "minisblack", **more})


def patched(array, tag, value, **more):
    """A TIFF whose tag says something else."""

    def write(path):
        tiff(array, **more)(path)
        with tifffile.TiffFile(path, mode="r+b") as file:
            file.pages[0].tags[tag].overwrite(value)

    return write


def jpeg_of(bits, **more):
    values = (np.add.outer(np.arange(64), np.arange(48)) * 30 % 2**bits).astype(np.uint16)
    return lambda path: path.write_bytes(imagecodecs.jpeg_encode(values, bitspersample=bits, **more))


def chunk(name, content):
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def png_of(width, height, *more):
    """The header of a PNG without its image."""
    start = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return lambda path: path.write_bytes(start + b"".join(more) + chunk(b"IDAT", zlib.compress(b"\0" * 99)) + chunk(b"IEND", b""))


def jpeg_bomb(path):
    Image.fromarray(RGB).save(path)
    data = bytearray(path.read_bytes())
    start = data.index(b"\xff\xc0")
    data[start + 5 : start + 9] = struct.pack(">HH", 13000, 14000)
    path.write_bytes(data)


def bmp_bomb(path):
    Image.fromarray(RGB).save(path)
    data = bytearray(path.read_bytes())
    data[18:26] = struct.pack("<ii", 13000, 14000)
    path.write_bytes(data)


def patched_gif(place, *sizes):
    """Of the whole, beside its one frame of 48 × 64."""

    def write(path):
        Image.fromarray(GREY).save(path)
        data = bytearray(path.read_bytes())
        data[place : place + 4] = struct.pack("<HH", *sizes)
        path.write_bytes(data)

    return write


def interlaced(path):
    with path.open("wb") as file:
        png.Writer(48, 64, bitdepth=16, greyscale=False, interlace=True).write(file, DEEP.reshape(64, -1).tolist())


def animation(path):
    Image.fromarray(RGB).save(path, save_all=True, append_images=[Image.fromarray(RGB[::-1].copy())])


def two_images(path):
    with tifffile.TiffWriter(path) as file:
        file.write(RGB[:32], photometric="rgb", metadata=None)
        file.write(RGB, photometric="rgb", metadata=None)


def only_thumbnail(path):
    tifffile.imwrite(path, RGB, photometric="rgb", subfiletype=1)


def other(data):
    return lambda path: path.write_bytes(data)


BOMB = "pixels and at most 150 million are read"
REFUSED = {
    "bomb.png": (png_of(14000, 13000), f"13000×14000 {BOMB}"),
    "bomb.jpg": (jpeg_bomb, f"13000×14000 {BOMB}"),
    "bomb.bmp": (bmp_bomb, f"14000×13000 {BOMB}"),
    "bomb.tif": (patched(RGB, "ImageWidth", 3_000_000, rowsperstrip=64), f"64×3000000 {BOMB}"),
    "bomb8.tif": (
        patched(np.zeros((64, 48, 8), np.uint8), "ImageWidth", 1_500_000, photometric="minisblack", planarconfig="contig"),
        "64×1500000 pixels of 8 channels and at most 150 million",
    ),
    "tile.tif": (patched(RGB, "TileLength", 16_000_000, tile=(16, 16)), BOMB),
    "channels.tif": (tiff(np.zeros((9, 9, 300), np.uint8), photometric="minisblack", planarconfig="contig"), "300 channels"),
    "twelve.jpg": (jpeg_of(12), "a JPEG of 12 bits"),
    "lossless.jpg": (jpeg_of(16, lossless=True), "a JPEG of 16 bits"),
    "interlaced.png": (interlaced, "an interlaced PNG of 16 bits in colour"),
    "animation.png": (animation, "an animation of 2 frames"),
    "stack.tif": (tiff(np.zeros((5, 64, 48), np.uint8), photometric="minisblack"), r"a stack of shape \(5, 64, 48\)"),
    "two.tif": (two_images, "holds 2 images"),
    "volume.tif": (
        tiff(np.zeros((32, 64, 48), np.uint8), photometric="minisblack", volumetric=True, tile=(16, 16, 16)),
        "a stack of depth 32",
    ),
    "thumbnail.tif": (only_thumbnail, "smaller copies of an image"),
    "jpegxr.tif": (tiff(RGB, compression="jpegxr"), "compressed with JPEGXR"),
    "unknown.tif": (patched(RGB, "Compression", 12345), "compressed with number 12345"),
    "complex.tif": (tiff(GREY.astype(np.complex64)), "64 bits and sample format COMPLEXIEEEFP"),
    "lab.tif": (tiff(RGB, photometric="cielab"), "3 CIELAB channels of 8 bits"),
    "ycbcr.tif": (patched(RGB, "PhotometricInterpretation", 6), "3 YCBCR channels of 8 bits"),
    "cfa.tif": (tiff(GREY, photometric="cfa"), "1 CFA channels"),
    "cmyk16.tif": (tiff(np.dstack([DEEP, DEEP[..., :1]]), photometric="separated"), "4 SEPARATED channels of 16 bits"),
    "predictor.tif": (tiff(GREY, compression="packbits", predictor=2), "predictor 2 and compression PackBits"),
    "565.tif": (patched(RGB, "BitsPerSample", (5, 6, 5)), r"of \(5, 6, 5\) bits"),
    "bomb.gif": (patched_gif(6, 14000, 13000), f"13000×14000 {BOMB}"),
    "animation.gif": (animation, "an animation of 2 frames"),
    "part.gif": (patched_gif(6, 60, 64), "a GIF whose frame covers a part of it only"),
    "empty.gif": (other(b"GIF89a" + bytes(50)), "cannot be read as an image"),
    "avif.png": (other(b"\0\0\0\x20ftypavif" + bytes(50)), "an AVIF image, which is not read"),
    "webp.jpg": (other(b"RIFF\x20\0\0\0WEBPVP8 " + bytes(50)), "a WebP image"),
    "dicom.tif": (other(bytes(128) + b"DICM" + bytes(50)), "holds no pixel data"),
    "page.png": (other(b"<!DOCTYPE html><html>not found</html>"), "a web page"),
    "lfs.png": (other(b"version https://git-lfs.github.com/spec/v1\noid sha256:1"), "git lfs pull"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_by_name(tmp_path, name, capfd):
    write, words = REFUSED[name]
    path = tmp_path / name
    write(path)
    capfd.readouterr()
    with pytest.raises(UserError, match=words) as told:
        read_image([path])
    assert str(told.value).startswith(str(path))
    assert "\n" not in str(told.value)
    assert attempt(path, header) == (None, str(told.value))
    assert capfd.readouterr() == ("", "")


def kinds():
    """Files of every kind, by name."""
    yield from {
        f"{name}.tif": tiff(array, compression=codec, rowsperstrip=16)
        for codec in (None, "lzw", "zlib", "packbits", "lzma", "zstd", "jpeg2000", "lerc", "png", "jpegxl")
        for name, array in ((f"{codec}8", RGB), (f"{codec}16", DEEP))
    }.items()
    yield "tiles.tif", tiff(DEEP, compression="lzw", tile=(16, 16), predictor=2)
    yield "jpeg.tif", tiff(RGB, compression="jpeg", rowsperstrip=16)
    yield "webp.tif", tiff(RGB, compression="webp", rowsperstrip=16)
    yield "ome.tif", tiff(GREY, ome=True)
    yield "packed.tif", tiff(GREY.astype(np.uint16), bitspersample=12)
    yield "fax.tif", lambda path: Image.fromarray(GREY > 99).save(path, compression="group4")
    yield "grey.png", lambda path: Image.fromarray(GREY).save(path)
    yield "rgb.png", lambda path: Image.fromarray(RGB).save(path)
    yield "palette.png", lambda path: Image.fromarray(RGB).quantize(16).save(path, transparency=3)
    yield "deep.png", lambda path: path.write_bytes(imagecodecs.png_encode(DEEP))
    yield "rgb.jpg", lambda path: Image.fromarray(RGB).save(path)
    yield "progressive.jpg", lambda path: Image.fromarray(GREY).save(path, progressive=True)
    yield "cmyk.jpg", lambda path: Image.fromarray(RGB).convert("CMYK").save(path)
    yield "rgb.bmp", lambda path: Image.fromarray(RGB).save(path)
    yield "grey.gif", lambda path: Image.fromarray(GREY).save(path)
    yield "palette.gif", lambda path: Image.fromarray(RGB).quantize(16).save(path, transparency=3)
    yield "palette.bmp", lambda path: Image.fromarray(RGB).quantize(16).save(path)


KINDS = dict(kinds())


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("kinds")
    for name, write in KINDS.items():
        write(folder / name)
    return folder


@pytest.mark.parametrize("name", KINDS)
def test_cut_short_anywhere(files, tmp_path, name, capfd):
    """Never another image, and the sentence unless it is the metadata after the image that is cut."""
    whole, data = read_image([files / name]), (files / name).read_bytes()
    path = tmp_path / name
    for kept in sorted({*range(0, len(data), max(1, len(data) // 25)), len(data) - 1, len(data) - 2, len(data) - 9}):
        path.write_bytes(data[:kept])
        image, sentence = attempt(path)
        if image is None:
            assert sentence.startswith(str(path))
        else:
            assert kept > len(data) - 10 or name == "ome.tif"
            assert np.array_equal(image, whole)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("share", [0.3, 0.9, 0.99])
@pytest.mark.parametrize("name", [name for name in KINDS if name.endswith(".tif") and name not in ("tiles.tif", "fax.tif")])
def test_a_strip_cut_short_in_a_whole_file(files, tmp_path, name, share):
    """The file keeps its length, one strip loses its end: a JPEG library would fill the rest with grey."""
    path = tmp_path / name
    path.write_bytes((files / name).read_bytes())
    with tifffile.TiffFile(path, mode="r+b") as file:
        counts = file.pages[0].tags["StripByteCounts"]
        first, *others = counts.value if isinstance(counts.value, tuple) else (counts.value,)
        counts.overwrite([int(first * share), *others])
    image, sentence = attempt(path)
    if image is None:
        assert "cannot be read as an image" in sentence
    else:  # all pixels are there: of LZMA the checksum is cut, of OME-TIFF without compression the length is known anyway
        assert name[:4] in ("lzma", "ome.")
        assert np.array_equal(image, read_image([files / name]))


def test_a_missing_strip(tmp_path):
    for tag in ("StripByteCounts", "StripOffsets"):
        tiff(RGB, compression="lzw", rowsperstrip=16)(tmp_path / "x.tif")
        with tifffile.TiffFile(tmp_path / "x.tif", mode="r+b") as file:
            found = file.pages[0].tags[tag]
            found.overwrite([*found.value[:-1], 0])
        with pytest.raises(UserError, match=r"part of the image is missing"):
            read_image([tmp_path / "x.tif"])


def test_a_checksum_of_png_is_compared(files, tmp_path):
    """Pillow reads on over a flipped bit, and shows other pixels than were stored."""
    data = bytearray((files / "rgb.png").read_bytes())
    data[data.index(b"IDAT") + 4000] ^= 1
    (tmp_path / "x.png").write_bytes(data)
    with pytest.raises(UserError, match=r"IDAT.* is damaged"):
        read_image([tmp_path / "x.png"])


@pytest.mark.parametrize("name", KINDS)
@given(flips=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(1, 255)), min_size=1, max_size=4))
@example(flips=[(0.0, 255)])
@settings(max_examples=15, deadline=None)
def test_flipped_bits_give_an_image_or_the_sentence(files, tmp_path_factory, name, flips):
    data = bytearray((files / name).read_bytes())
    for where, mask in flips:
        data[int(where**3 * len(data))] ^= mask  # more at the start, where the headers are
    path = tmp_path_factory.getbasetemp() / name
    path.write_bytes(data)
    promised, why_not = attempt(path, header)
    image, sentence = attempt(path)
    assert all("\n" not in text and (not text or text.startswith(str(path))) for text in (why_not, sentence))
    if image is not None:
        assert promised is not None
        assert image.shape[2] == promised[0]


def test_header_and_reader_refuse_a_folder_and_nothing(tmp_path):
    for path, words in ((tmp_path, "cannot be read"), (tmp_path / "none.png", "does not exist")):
        for read in (header, lambda path: read_image([path])):
            with pytest.raises(UserError, match=words):
                read(path)


LABELS = np.random.default_rng(2).integers(0, 4, (20, 30))


def write_grey(depth):
    def write(path):
        with path.open("wb") as file:
            png.Writer(30, 20, bitdepth=depth, greyscale=True).write(file, LABELS.tolist())

    return write


def write_palette(depth):
    def write(path):
        colours = [(9, 9, 9, 255), (200, 0, 0, 255), (0, 200, 0, 0), (0, 0, 200, 255)]
        with path.open("wb") as file:
            png.Writer(30, 20, bitdepth=depth, palette=colours).write(file, LABELS.tolist())

    return write


LABEL_MAPS = {  # how they are stored: suffix, writer, and by what the labels are multiplied
    "grey of 2 bits": ("png", write_grey(2), 1),
    "grey of 4 bits": ("png", write_grey(4), 1),
    "palette of 2 bits": ("png", write_palette(2), 1),
    "palette of 4 bits": ("png", write_palette(4), 1),
    "palette of 8 bits": ("png", write_palette(8), 1),
    "TIFF of 4 bits": ("tif", tiff(LABELS.astype(np.uint8), bitspersample=4), 1),
    "TIFF of 12 bits": ("tif", tiff(LABELS.astype(np.uint16) * 1000, bitspersample=12), 1000),
    "16 bit PNG": ("png", lambda path: Image.fromarray(LABELS.astype(np.uint16) * 300).save(path), 300),
    "16 bit LZW": ("tif", tiff(LABELS.astype(np.uint16) * 300, compression="lzw", predictor=2), 300),
    "32 bit zstd": ("tif", tiff(LABELS.astype(np.uint32) * 20_000, compression="zstd"), 20_000),
    "float tiles": ("tif", tiff(LABELS.astype(np.float32), tile=(16, 16), compression="lzw", predictor=3), 1),
    "grey in RGB": ("png", lambda path: Image.fromarray(np.dstack([LABELS.astype(np.uint8)] * 3)).save(path), 1),
    "grey in 16 bit RGB": (
        "tif",
        tiff(np.dstack([LABELS.astype(np.uint16) * 300] * 3), compression="lzw", photometric="rgb"),
        300,
    ),
    "grey with alpha": (
        "png",
        lambda path: Image.fromarray(np.dstack([LABELS, LABELS * 0 + 255]).astype(np.uint8), mode="LA").save(path),
        1,
    ),
}


@pytest.mark.parametrize("kind", LABEL_MAPS)
def test_label_maps_keep_the_stored_number(make, kind):
    suffix, write, factor = LABEL_MAPS[kind]
    root = make.label_maps(1)
    (root / "masks/c00.png").unlink()
    write(root / f"masks/c00.{suffix}")
    dataset = open_dataset(root)
    assert dataset.label_values == (factor, 2 * factor, 3 * factor)
    assert np.array_equal(read_masks(dataset.cases[0], dataset), [value == LABELS for value in (1, 2, 3)])


def test_labels_where_a_map_is_transparent(make):
    root = make.label_maps(1)
    make.save("masks/c00.png", np.dstack([LABELS] * 3 + [LABELS * 0]).astype(np.uint8))
    with pytest.raises(UserError, match=r"label map .*c00\.png holds labels where it is transparent"):
        read_labels(root / "masks/c00.png")


@pytest.mark.parametrize("stored", ["1 bit", "4 bits", "transparent value", "palette", "16 bit LZW"])
def test_binary_masks_of_every_kind(make, stored):
    root = make.folders(1)
    mask = LABELS > 1
    path = root / "masks/0/c00.png"
    if stored == "1 bit":
        Image.fromarray(mask).save(path)
    elif stored == "palette":
        image = Image.fromarray(mask.astype(np.uint8), mode="P")
        image.putpalette([0, 0, 0, 0, 255, 0])
        image.save(path, bits=1)
    elif stored == "16 bit LZW":
        path.unlink()
        tiff(np.dstack([mask.astype(np.uint16) * 65535] * 3), compression="lzw")(path.with_suffix(".tif"))
    else:
        transparent = {"transparent": 7} if stored == "transparent value" else {}
        values = np.where(mask, 15, 7 if transparent else 0)
        with path.open("wb") as file:
            png.Writer(30, 20, bitdepth=4, greyscale=True, **transparent).write(file, values.tolist())
    dataset = open_dataset(root)
    assert np.array_equal(read_masks(dataset.cases[0], dataset)[0], mask)


def test_a_mask_of_many_channels_is_no_mask(make):
    root = make.folders(1)
    (root / "masks/0/c00.png").unlink()
    tifffile.imwrite(root / "masks/0/c00.tif", np.zeros((20, 30, 5), np.uint8), photometric="minisblack", planarconfig="contig")
    dataset = open_dataset(root)
    with pytest.raises(UserError, match=r"c00\.tif has 5 channels: expected is one plane"):
        read_masks(dataset.cases[0], dataset)
