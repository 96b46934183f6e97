"""Two dimensions, and the stacks of two dimensions that TIFF knows: values stay as they are."""

import numpy as np
import pydicom
import pytest
import tifffile
from PIL import Image as Pillow

from allukan.data.volumes import is_volume, label_suffix, read_image, read_labels, write_labels
from allukan.errors import UserError
from tests.data.volumes.conftest import numbers


def test_twelve_and_sixteen_bits_keep_their_values(tmp_path):
    values = np.random.default_rng(0).integers(0, 65536, (20, 30), dtype=np.uint16)
    Pillow.fromarray(values).save(tmp_path / "x.png")
    tifffile.imwrite(tmp_path / "x.tif", values)
    tifffile.imwrite(tmp_path / "f.tif", values.astype(np.float32) / 7)
    low = np.random.default_rng(0).integers(0, 4096, (20, 30), dtype=np.uint16)
    tifffile.imwrite(tmp_path / "12.tif", low, bitspersample=12)
    for name, expected in [("x.png", values), ("x.tif", values), ("f.tif", values.astype(np.float32) / 7), ("12.tif", low)]:
        image = read_image(tmp_path / name)
        assert image.array.shape == (1, 20, 30)
        assert image.array.dtype == expected.dtype
        assert (image.array[0] == expected).all()
        assert not image.geometry.in_mm
        assert not is_volume(tmp_path / name)


def test_colours_and_bytes(tmp_path):
    values = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    Pillow.fromarray(values).save(tmp_path / "x.png")
    image = read_image(tmp_path / "x.png")
    assert (image.array == np.moveaxis(values, -1, 0)).all()
    assert image.array.dtype == np.uint8
    assert (read_image(tmp_path / "x.png", channels=3).array == image.array).all()
    with pytest.raises(UserError, match="holds 3 channels and 1 are expected"):
        read_image(tmp_path / "x.png", channels=1)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "float32"])
def test_white_as_zero_is_turned(tmp_path, dtype):
    values = numbers(dtype, (20, 30))
    tifffile.imwrite(tmp_path / "x.tif", values, photometric="miniswhite")
    found = read_image(tmp_path / "x.tif").array[0]
    assert found.dtype == values.dtype
    assert found[np.unravel_index(values.argmin(), values.shape)] == found.max()
    np.testing.assert_allclose(np.diff(found.astype(float), axis=0), -np.diff(values.astype(float), axis=0), rtol=1e-4, atol=1e-3)


ZYX = {"metadata": {"axes": "ZYX"}}


@pytest.mark.parametrize(
    "how", [{"imagej": True, **ZYX}, {"ome": True, **ZYX}, {"metadata": None}, {"compression": "zlib"}, {"bigtiff": True}]
)
def test_stacks(tmp_path, how):
    values = numbers("uint16", (7, 20, 30))
    path = tmp_path / ("x.ome.tif" if "ome" in how else "x.tif")
    tifffile.imwrite(path, values, photometric="minisblack", **how)
    image = read_image(path)
    assert (image.array == values[None]).all()
    assert image.array.dtype == np.uint16
    assert is_volume(path)
    assert label_suffix(image) == ".tif"
    write_labels(tmp_path / "o.tif", values[:, ::-1] % 5, image)
    assert (read_labels(tmp_path / "o.tif", image).array[0] == values[:, ::-1] % 5).all()
    assert (tifffile.imread(tmp_path / "o.tif") == values[:, ::-1] % 5).all()


def test_a_damaged_tiff_is_no_volume(tmp_path):
    (tmp_path / "x.tif").write_bytes(b"II*\0\xff\xff\0\0")
    assert not is_volume(tmp_path / "x.tif")
    with pytest.raises(UserError, match="cannot be read as an image"):
        read_image(tmp_path / "x.tif")


def test_stacks_of_channels(tmp_path):
    values = numbers("uint8", (7, 2, 20, 30))
    tifffile.imwrite(tmp_path / "x.tif", values, imagej=True, metadata={"axes": "ZCYX"})
    assert (read_image(tmp_path / "x.tif").array == np.moveaxis(values, 1, 0)).all()
    colours = numbers("uint8", (7, 20, 30, 3))
    tifffile.imwrite(tmp_path / "rgb.tif", colours, photometric="rgb")
    assert (read_image(tmp_path / "rgb.tif").array == np.moveaxis(colours, -1, 0)).all()
    with pytest.raises(UserError, match="holds 2 channels and 3 are expected"):
        read_image(tmp_path / "x.tif", channels=3)


def test_label_pictures_by_the_rules_of_label_maps(tmp_path):
    palette = Pillow.fromarray(np.resize(np.arange(4, dtype=np.uint8), (20, 30)), mode="P")
    palette.putpalette([0, 0, 0, 255, 0, 0, 0, 255, 0, 0, 0, 255])
    palette.save(tmp_path / "x.png")
    image = read_labels(tmp_path / "x.png")
    assert set(image.array.ravel()) == {0, 1, 2, 3}
    write_labels(tmp_path / "o.png", image.array[0] * np.uint16(100), image)
    assert (np.asarray(Pillow.open(tmp_path / "o.png")) == image.array[0] * np.uint16(100)).all()
    with pytest.raises(UserError, match="holds labels up to 65535, not 70000"):
        write_labels(tmp_path / "big.png", np.full((20, 30), 70_000), image)
    Pillow.fromarray(np.full((20, 30), 9, np.uint8)).save(tmp_path / "x.jpg")
    with pytest.raises(UserError, match="is a JPEG of more than black and white, which changes the numbers"):
        read_labels(tmp_path / "x.jpg")


def test_a_radiograph_is_a_picture_with_a_size(pydicom_data):
    path = pydicom_data / "dicomdirtests" / "77654033" / "CR1" / "6154"
    image = read_image(path)
    assert image.array.shape == (1, 16, 16)
    assert image.spacing_mm == tuple(pydicom.dcmread(path).ImagerPixelSpacing)
    assert image.geometry.in_mm
    assert label_suffix(image) == ".png"
