"""One DICOM file as a picture: its values, what its header promises, and what is no picture."""

from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.data import get_testdata_file
from pydicom.pixels import apply_modality_lut

from allukan.data import open_dataset, read_image, read_values, write_image
from allukan.data import volumes as of_volumes
from allukan.data.decode import decode, header, is_deep
from allukan.errors import UserError
from tests.data.volumes.conftest import Series

SHIPPED = sorted((Path(pydicom.__file__).parent / "data" / "test_files").glob("*.dcm"))
BYTES = {"BitsAllocated": 8, "BitsStored": 8, "HighBit": 7}


def one(series, **changes):
    """The path of one slice of ``series`` after changes of its header."""
    made = series.slices[0]
    for name, value in changes.items():
        setattr(made, name, value)
    series.folder.mkdir(exist_ok=True)
    made.save_as(series.folder / "x.dcm")
    return series.folder / "x.dcm"


def test_values_have_slope_and_intercept():
    path = Path(get_testdata_file("CT_small.dcm"))
    dataset = pydicom.dcmread(path)
    found = read_values([path])
    assert np.array_equal(found[..., 0], apply_modality_lut(dataset.pixel_array, dataset))
    assert found.min() < -500
    assert header(path) == (1, "CT 16 bit grey")


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.name)
def test_what_pydicom_ships_is_the_picture_that_it_is_as_a_volume_or_refused(path):
    """Oracle: the reader of volumes, which is held against pydicom's own values."""
    if not _is_read(path):
        with pytest.raises(UserError):
            of_volumes.read_image(path)
        return
    found, (channels, _) = decode(path), header(path)
    image = of_volumes.read_image(path)
    assert np.array_equal(np.moveaxis(found.values, -1, 0).ravel(), image.array.ravel())
    assert found.values.shape == (*image.geometry.shape[-2:], channels)
    assert is_deep(path) == (found.values.dtype != np.uint8)


def test_enough_of_them_are_pictures():
    """Refusing all would pass the test above."""
    assert sum(_is_read(path) for path in SHIPPED) >= 45


def _is_read(path):
    try:
        return decode(path) is not None
    except UserError:
        return False


def test_white_as_zero_is_turned(series):
    plain = read_values([one(series)]).astype(int)
    assert np.array_equal(read_values([one(series, PhotometricInterpretation="MONOCHROME1")]), 4095 - 2048 - plain)


def test_colours_of_ultrasound_stay_bytes(series):
    rgb = np.random.default_rng(2).integers(0, 256, (5, 6, 3), dtype=np.uint8)
    colours = {"SamplesPerPixel": 3, "PhotometricInterpretation": "RGB", "PlanarConfiguration": 0, "PixelData": rgb.tobytes()}
    path = one(series, Modality="US", **colours, **BYTES)
    assert header(path) == (3, "US 8 bit RGB")
    assert not is_deep(path)
    assert np.array_equal(read_values([path]), rgb)
    assert np.array_equal(read_image([path], (3,)), rgb)


def test_bytes_in_two_bytes_stay_bytes(series):
    values = np.random.default_rng(2).integers(0, 256, (5, 6)).astype("<u2")
    path = one(series, BitsStored=8, HighBit=7, RescaleIntercept=0, PixelData=values.tobytes())
    assert read_values([path]).dtype == np.uint8
    assert np.array_equal(read_values([path])[..., 0], values)


def test_a_film_is_refused_in_one_sentence(series, tmp_path):
    frames = np.zeros((3, 5, 6), np.uint16)
    path = one(series, NumberOfFrames=3, PixelData=frames.tobytes())
    with pytest.raises(UserError, match=r"x\.dcm holds 3 frames, and a picture is one: save each of them as a file\."):
        read_values([path])
    (tmp_path / "images").mkdir()
    path.rename(tmp_path / "images/x.dcm")
    write_image(tmp_path / "masks/x.png", np.full((5, 6), 255, np.uint8))
    dataset = open_dataset(tmp_path)
    assert dataset.spatial_dims == 2
    with pytest.raises(UserError, match="holds 3 frames"):
        header(dataset.cases[0].images[0])


def test_dicom_files_are_what_the_others_are(tmp_path, nifti):
    """Beside PNG pictures; beside NIfTI volumes; alone pictures, unless there are frames."""
    png = Series(tmp_path / "a/images", 2)
    png.save(["x.dcm", "y.dcm"])
    for name in ("x", "y"):
        write_image(tmp_path / f"a/masks/{name}.png", np.full((5, 6), 255, np.uint8))
    assert open_dataset(tmp_path / "a").spatial_dims == 2
    for name in ("x", "y"):
        (tmp_path / f"a/masks/{name}.png").unlink()
        nifti(np.ones((6, 5, 1), np.uint8), name="m.nii.gz").rename(tmp_path / f"a/masks/{name}.nii.gz")
    assert open_dataset(tmp_path / "a").spatial_dims == 3


def test_a_picture_without_a_place_has_a_segmentation_in_a_frame_of_reference(series, tmp_path):
    hd = pytest.importorskip("highdicom", reason="the extra allukan[dicom] is not installed")
    made = series.slices[0]
    for name in ("ImagePositionPatient", "ImageOrientationPatient"):
        delattr(made, name)
    path = one(series, Modality="DX")
    image = of_volumes.read_image(path)
    assert image.geometry.shape == (5, 6)
    labels = np.random.default_rng(3).integers(0, 2, (5, 6))
    of_volumes.write_segmentation(tmp_path / "seg.dcm", labels, image, {1: "mass"})
    found = hd.seg.segread(tmp_path / "seg.dcm").get_pixels_by_source_instance([made.SOPInstanceUID])
    assert np.array_equal(found[0, ..., 0], labels)
    del made.FrameOfReferenceUID
    with pytest.raises(UserError, match=r"x\.dcm names no frame of reference .*: write PNG or NIfTI\."):
        of_volumes.write_segmentation(tmp_path / "other.dcm", labels, of_volumes.read_image(one(series)), {1: "mass"})
