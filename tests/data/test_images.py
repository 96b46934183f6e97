"""Every kind of file becomes the right bytes, or one sentence."""

import warnings
from concurrent.futures import ThreadPoolExecutor

import imagecodecs
import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image, ImageOps

from allukan.data import file_channels, fit_channels, open_dataset, prepare, read_image, read_masks, write_image
from allukan.data.decode import header
from allukan.data.images import resize_masks, scaled_note
from allukan.errors import UserError

random = np.random.default_rng(0)
COLOUR = random.integers(0, 256, (20, 30, 3), dtype=np.uint8)


def reading(path):
    return read_image([path])


def test_images_that_lose_values_are_told_of(make, caplog):
    """Once a preparation, not a file; a damaged file is told of when it is read."""
    data = open_dataset(make.folders(4))
    with caplog.at_level("WARNING", "allukan"):
        prepare(data, data.cases, (20, 30))
    assert caplog.messages == []
    make.save("images/c01.png", (make.grey().astype(np.uint16) * 16))
    make.save("images/c02.png", make.grey().astype(np.uint16))
    with caplog.at_level("WARNING", "allukan"):
        prepare(data, data.cases, (20, 30))
    (told,) = caplog.messages
    assert told.startswith("2 of 4 images have more than 8 bits and the model was trained on bytes: each is scaled by itself")
    (make.root / "images/c00.png").write_bytes(b"x")
    assert scaled_note([case.images for case in data.cases]) == told


@pytest.mark.parametrize("compression", ["tiff_lzw", "tiff_deflate", "packbits", None])
@pytest.mark.parametrize("array", [COLOUR, COLOUR[..., 0], COLOUR[..., 0] > 99], ids=["rgb", "grey", "1 bit"])
def test_tiff_in_every_usual_compression(tmp_path, array, compression):
    Image.fromarray(array).save(tmp_path / "x.tif", compression=compression)
    assert np.array_equal(reading(tmp_path / "x.tif").squeeze(), np.asarray(array) * np.uint8(255 if array.dtype == bool else 1))


def test_sixteen_bits_are_the_same_from_every_file(tmp_path):
    """Colours of 10 bits: one decoder read zeros, one kept 4 of the levels, one ended in a traceback."""
    deep = np.random.default_rng(3).integers(0, 1024, (40, 50, 3), dtype=np.uint16)
    for compression in (None, "lzw", "zlib", "zstd", "lzma"):
        tifffile.imwrite(tmp_path / f"{compression}.tif", deep, photometric="rgb", compression=compression)
    (tmp_path / "x.png").write_bytes(imagecodecs.png_encode(deep))
    low, high = np.percentile(deep, (0.5, 99.5))
    expected = np.rint(np.clip((deep - low) / (high - low), 0, 1) * 255).astype(np.uint8)
    paths = sorted(tmp_path.iterdir())
    assert len(paths) == 6
    for path in paths:
        assert np.array_equal(reading(path), expected), path


@pytest.mark.parametrize("channels", [2, 4, 5, 8])
def test_every_channel_of_a_tiff_is_a_channel(tmp_path, channels):
    values = np.random.default_rng(4).integers(0, 256, (20, 30, channels), dtype=np.uint8)
    tifffile.imwrite(tmp_path / "x.tif", values, photometric="minisblack", planarconfig="contig")
    assert np.array_equal(reading(tmp_path / "x.tif"), values)
    assert header(tmp_path / "x.tif")[0] == channels


def test_many_images_at_once_leave_the_filters_of_warnings_as_they_were(tmp_path):
    for i in range(40):
        Image.fromarray(COLOUR).save(tmp_path / f"{i}.tif")
    before = list(warnings.filters)
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(reading, sorted(tmp_path.iterdir()) * 3))
    assert all(np.array_equal(image, COLOUR) for image in found)
    assert warnings.filters == before


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["tif", "jpg", "png", "16.png"])
def test_orientation_is_applied_as_pil_does(tmp_path, orientation, suffix):
    path = tmp_path / f"x.{suffix}"
    if suffix == "tif":
        tifffile.imwrite(path, COLOUR, photometric="rgb", extratags=[(274, "H", 1, orientation, True)])
    else:
        image = Image.fromarray(COLOUR)
        exif = image.getexif()
        exif[274] = orientation
        image.save(path, exif=exif)
    if suffix == "16.png":  # Pillow writes no colours of 16 bits, so its EXIF moves into a file of another writer
        data, deep = path.read_bytes(), imagecodecs.png_encode(COLOUR.astype(np.uint16) * 257)
        start = data.index(b"eXIf") - 4
        chunk = data[start : start + 12 + int.from_bytes(data[start : start + 4], "big")]
        path.write_bytes(deep[:33] + chunk + deep[33:])
        plain = tmp_path / "plain.png"
        plain.write_bytes(deep)
        stored = reading(plain)
        turned = np.swapaxes(stored, 0, 1) if orientation > 4 else stored
        rows, columns = (-1 if orientation in kinds else 1 for kinds in ((3, 4, 7, 8), (2, 3, 6, 7)))
        assert np.array_equal(reading(path), turned[::rows, ::columns])
        return
    with Image.open(path) as stored:
        expected = np.asarray(ImageOps.exif_transpose(stored))
    assert np.array_equal(reading(path), expected)
    assert reading(path).shape[:2] == ((30, 20) if orientation > 4 else (20, 30))


def test_planar_and_palette_tiff(tmp_path):
    tifffile.imwrite(tmp_path / "planar.tif", np.moveaxis(COLOUR, -1, 0), photometric="rgb", planarconfig="separate")
    assert np.array_equal(reading(tmp_path / "planar.tif"), COLOUR)
    palette = random.integers(0, 65536, (3, 256), dtype=np.uint16)
    tifffile.imwrite(tmp_path / "palette.tif", COLOUR[..., 0], photometric="palette", colormap=palette)
    assert np.array_equal(reading(tmp_path / "palette.tif"), np.moveaxis(palette[:, COLOUR[..., 0]] >> 8, 0, -1))


def test_white_is_zero(tmp_path, make):
    tifffile.imwrite(tmp_path / "x.tif", COLOUR[..., 0], photometric="miniswhite")
    assert np.array_equal(reading(tmp_path / "x.tif")[..., 0], 255 - COLOUR[..., 0])
    root = make.folders(1)
    (root / "masks/0/c00.png").unlink()
    tifffile.imwrite(root / "masks/0/c00.tif", make.mask(), photometric="miniswhite")
    dataset = open_dataset(root)
    with pytest.raises(UserError, match="zero is white"):
        read_masks(dataset.cases[0], dataset)


def kinds():
    values = COLOUR[..., 0].astype(np.float32)
    yield "grey.png", lambda p: Image.fromarray(COLOUR[..., 0]).save(p)
    yield "alpha.png", lambda p: Image.fromarray(COLOUR[..., :2], mode="LA").save(p)
    yield "rgb.bmp", lambda p: Image.fromarray(COLOUR).save(p)
    yield "rgba.png", lambda p: Image.fromarray(COLOUR).convert("RGBA").save(p)
    yield "palette.png", lambda p: Image.fromarray(COLOUR).convert("P").save(p)
    yield "bit.png", lambda p: Image.fromarray(COLOUR[..., 0] > 99).save(p)
    yield "deep.png", lambda p: Image.fromarray(values.astype(np.uint16) * 9).save(p)
    yield "int.tif", lambda p: Image.fromarray(values.astype(np.int32)).save(p)
    yield "float.tiff", lambda p: tifffile.imwrite(p, values)
    yield "lzw.tif", lambda p: Image.fromarray(values.astype(np.uint16)).save(p, compression="tiff_lzw")
    yield "rgba.tif", lambda p: Image.fromarray(COLOUR).convert("RGBA").save(p)
    yield "cmyk.jpg", lambda p: Image.fromarray(COLOUR).convert("CMYK").save(p)
    yield "grey.jpeg", lambda p: Image.fromarray(COLOUR[..., 0]).save(p)


@pytest.mark.parametrize(("name", "save"), kinds(), ids=[name for name, _ in kinds()])
def test_the_header_promises_what_the_reader_gives(tmp_path, name, save):
    save(tmp_path / name)
    image = reading(tmp_path / name)
    assert image.dtype == np.uint8
    assert image.shape == (20, 30, header(tmp_path / name)[0])
    assert image.max() > image.min()


@given(arrays(np.uint16, st.tuples(st.integers(1, 9), st.integers(1, 9))))
@settings(max_examples=25, deadline=None)
def test_scaling_keeps_the_order_and_survives_constant_images(tmp_path_factory, values):
    path = tmp_path_factory.mktemp("x") / "x.tif"
    tifffile.imwrite(path, values)
    image = reading(path)[..., 0].astype(int)
    order = np.argsort(values, axis=None)
    assert (np.diff(image.ravel()[order]) >= 0).all()


BROKEN = {
    "text.png": b"hello",
    "text.tif": b"hello",
    "text.jpg": b"hello",
    "nothing.png": b"",
    "nothing.tif": b"",
}


@pytest.mark.parametrize("name", BROKEN)
def test_files_that_are_no_images(tmp_path, name, capfd):
    (tmp_path / name).write_bytes(BROKEN[name])
    for look in (reading, header):
        with pytest.raises(UserError, match=f"{name} cannot be read as an image"):
            look(tmp_path / name)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("name", ["x.png", "x.jpg", "x.bmp", "x.tif", "lzw.tif"])
@pytest.mark.parametrize("kept", [10, 100, 300])
def test_files_cut_short(tmp_path, name, kept, capfd):
    path = tmp_path / name
    Image.fromarray(COLOUR).save(path, **({"compression": "tiff_lzw"} if name == "lzw.tif" else {}))
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(UserError, match=f"{name} cannot be read as an image"):
        reading(path)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_values_that_are_no_numbers(tmp_path, make, bad):
    values = np.ones((20, 30), np.float32)
    values[3, 4] = bad
    tifffile.imwrite(tmp_path / "x.tif", values)
    with pytest.raises(UserError, match=r"x\.tif holds NaN or infinite"):
        reading(tmp_path / "x.tif")
    root = make.folders(1)
    (root / "masks/0/c00.png").unlink()
    tifffile.imwrite(root / "masks/0/c00.tif", values)
    dataset = open_dataset(root)
    with pytest.raises(UserError, match=r"c00\.tif holds NaN or infinite"):
        read_masks(dataset.cases[0], dataset)


def test_a_stack_is_not_read_as_its_first_slice(tmp_path):
    tifffile.imwrite(tmp_path / "x.tif", np.zeros((5, 20, 30), np.uint8), photometric="minisblack")
    with pytest.raises(UserError, match=r"x\.tif is a stack of shape \(5, 20, 30\)"):
        reading(tmp_path / "x.tif")


def test_channels_of_different_sizes(make):
    paths = [make.save("a.png", make.grey(20, 30)), make.save("b.png", make.grey(30, 20))]
    with pytest.raises(UserError, match=r"b\.png is 30×20 pixels but .*a\.png is 20×30"):
        read_image(paths)


def test_transparent_pixels_of_a_mask_are_background(make):
    root, mask = make.folders(1), make.mask()
    opaque = np.dstack([np.full((20, 30, 3), 255, np.uint8), mask])
    make.save("masks/0/c00.png", opaque)
    dataset = open_dataset(root)
    assert np.array_equal(read_masks(dataset.cases[0], dataset)[0], mask > 0)


@pytest.mark.parametrize(("values", "good"), [((0,), True), ((7,), True), ((0, 3), True), ((1, 2), False), ((0, 1, 255), False)])
def test_binary_masks_hold_zero_and_one_other_value(make, values, good):
    root = make.folders(1)
    make.save("masks/0/c00.png", np.resize(np.array(values, np.uint8), (20, 30)))
    dataset = open_dataset(root)
    if good:
        assert read_masks(dataset.cases[0], dataset).mean() == pytest.approx(np.mean([v > 0 for v in values]))
        return
    with pytest.raises(UserError, match=rf"c00\.png is not binary: it holds {len(values)} values \({values[0]}, "):
        read_masks(dataset.cases[0], dataset)


def test_channels_come_from_every_header(make):
    root = make.folders(70)
    make.save("images/c01.png", COLOUR)
    assert sum(file_channels(open_dataset(root))) == 3


def test_prepare_without_size(make):
    root = make.folders(3)
    dataset = open_dataset(root)
    data = prepare(dataset, dataset.cases)
    assert (data.images.shape, data.masks.shape) == ((3, 1, 20, 30), (3, 1, 20, 30))
    assert np.array_equal(data.images[1, 0].numpy(), read_image(dataset.cases[1].images)[..., 0])
    make.save("images/c01.png", make.grey(9, 9))
    make.save("masks/0/c01.png", make.mask(9, 9))
    with pytest.raises(UserError, match="'c01' is 9×9 pixels but 'c00' is 20×30: give a size"):
        prepare(dataset, dataset.cases)
    assert prepare(dataset, dataset.cases, (8, 8)).shapes == ((20, 30), (9, 9), (20, 30))
    with pytest.raises(UserError, match="no images"):
        prepare(dataset, ())


def test_prepare_refuses_a_mask_of_another_size(make):
    root = make.folders(2)
    make.save("masks/0/c01.png", make.mask(9, 9))
    dataset = open_dataset(root)
    with pytest.raises(UserError, match=r"c01\.png is 9×9 pixels but its image is 20×30"):
        prepare(dataset, dataset.cases, (8, 8))


def test_colour_becomes_grey_by_luminance_and_comes_back():
    grey = fit_channels(COLOUR, 1)
    assert grey.shape == (20, 30, 1)
    assert np.abs(grey[..., 0] - COLOUR @ [0.299, 0.587, 0.114]).max() <= 1
    assert np.array_equal(fit_channels(fit_channels(grey, 3), 1), grey)


@given(arrays(np.uint8, (2, 7, 5), elements=st.integers(0, 1)), st.integers(1, 20), st.integers(1, 20))
@settings(max_examples=30, deadline=None)
def test_resized_masks_stay_masks(masks, height, width):
    resized = resize_masks(masks, (height, width))
    assert resized.shape == (2, height, width)
    for before, after in zip(masks, resized, strict=True):
        assert set(np.unique(after)) <= set(np.unique(before))


def test_images_are_written_whole(tmp_path):
    write_image(tmp_path / "new/x.png", COLOUR)
    assert np.array_equal(reading(tmp_path / "new/x.png"), COLOUR)
    assert [p.name for p in (tmp_path / "new").iterdir()] == ["x.png"]
