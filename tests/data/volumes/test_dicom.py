"""Series made by the tests: what is read, in which order and where it lies, and what is refused in one sentence."""

import logging
from itertools import pairwise

import imagecodecs
import nibabel as nib
import numpy as np
import pydicom
import pytest
from pydicom import uid
from pydicom.encaps import encapsulate
from pydicom.sequence import Sequence

from allukan.data.volumes import is_volume, read_image, write_labels
from allukan.errors import UserError
from tests.data.volumes.conftest import Series


def test_a_series_in_hounsfield_units(series):
    image = read_image(series.save())
    assert image.array.dtype == np.int16
    assert (image.array[0] == series.values).all()
    assert image.spacing_mm == (3, 0.5, 0.75)
    assert image.origin == (-10, 20, 30)
    assert image.geometry.orientation == "SPL"
    assert is_volume(series.folder)


def test_places_count_and_neither_names_nor_numbers(series):
    order = [4, 0, 5, 2, 1, 3]
    for made, number in zip(series.slices, order, strict=True):
        made.InstanceNumber = number
    series.save([f"{n}.dcm" for n in order])
    image = read_image(series.folder)
    assert (image.array[0] == series.values).all()
    assert [path.name for path in image.source.paths] == [f"{n}.dcm" for n in order]


def test_a_series_from_head_to_feet_is_the_same_volume(tmp_path):
    made = Series(tmp_path / "ct")
    for number, piece in enumerate(made.slices):
        piece.ImagePositionPatient[2] = 30 - 3 * number
    image = read_image(made.save())
    assert (image.array[0] == made.values[::-1]).all()
    assert image.origin == (-10, 20, 15)


def test_oblique_slices(series):
    rows, columns = np.array([0.8, 0.6, 0]), np.array([-0.36, 0.48, 0.8])
    normal = np.cross(rows, columns)
    for number, made in enumerate(series.slices):
        made.ImageOrientationPatient = [*rows.tolist(), *columns.tolist()]
        made.ImagePositionPatient = [round(float(x), 9) for x in normal * 3 * number + [1, 2, 3]]
    image = read_image(series.save())
    np.testing.assert_allclose(image.direction.T, [normal, columns, rows], atol=1e-9)
    assert image.spacing_mm == pytest.approx((3, 0.5, 0.75))
    assert image.geometry.is_orthogonal


def test_gantry_tilt_is_kept_as_a_sheared_grid_and_said(series, caplog):
    for number, made in enumerate(series.slices):
        made.ImagePositionPatient[1] = 20 + 3 * number * float(np.tan(np.radians(15)))
    with caplog.at_level(logging.WARNING, "allukan"):
        image = read_image(series.save())
    assert "is tilted by 15.0° (gantry tilt)" in caplog.text
    assert (image.array[0] == series.values).all()
    for number, made in enumerate(series.slices):
        there = (image.geometry.affine @ [number, 0, 0, 1])[:3]
        np.testing.assert_allclose(there, np.array(made.ImagePositionPatient, float), atol=1e-6)
    assert image.geometry.voxel_mm3 == pytest.approx(3 * 0.5 * 0.75)
    write_labels(series.folder.parent / "o.nii.gz", np.zeros(image.geometry.shape, int), image)
    written = nib.load(series.folder.parent / "o.nii.gz")
    np.testing.assert_allclose(
        (written.affine @ [0, 0, 5, 1])[:3] * [-1, -1, 1], series.slices[5].ImagePositionPatient, atol=1e-4
    )
    assert int(written.header["qform_code"]) == 0  # which holds no shear


@pytest.mark.parametrize(("slope", "intercept"), [(-1, 4095), (-2, 0), (3, 100_000), (0.5, -7)])
def test_any_slope_and_intercept(series, slope, intercept):
    for made in series.slices:
        made.RescaleSlope, made.RescaleIntercept = slope, intercept
    assert (read_image(series.save()).array[0] == (series.values + 1024) * slope + intercept).all()


def test_a_series_in_colour_has_as_many_channels_as_are_wanted_or_is_refused(series):
    for made in series.slices:
        made.SamplesPerPixel, made.PhotometricInterpretation, made.PlanarConfiguration = 3, "RGB", 0
        made.BitsAllocated, made.BitsStored, made.HighBit, made.PixelData = 8, 8, 7, bytes(90)
    assert read_image(series.save(), channels=3).array.shape == (3, 6, 5, 6)
    with pytest.raises(UserError, match="holds 3 channels and 1 are expected"):
        read_image(series.folder, channels=1)


def test_positions_with_one_decimal_are_even_enough(series, caplog):
    for number, made in enumerate(series.slices):
        made.ImagePositionPatient[1] = 20 + 0.1 * (number in (1, 4))
        made.ImagePositionPatient[2] = round(30 + 0.625 * number, 1)
    assert read_image(series.save()).spacing_mm[0] == pytest.approx(0.625, abs=0.03)
    assert not caplog.text


def test_two_series_in_one_folder_are_named(series):
    other = Series(series.folder, count=3)
    for made in other.slices:
        made.SeriesDescription = "scout of the day before"
    other.save([f"B{i}" for i in range(3)])
    with pytest.raises(UserError) as caught:
        read_image(series.save())
    said = str(caught.value)
    assert "holds 2 series (" in said
    assert "thorax: 6 files" in said
    assert "scout of the day before: 3 files" in said
    assert (read_image(series.folder, series=other.uid).array[0] == other.values).all()
    with pytest.raises(UserError, match=r"has no series 1\.2\.3: it holds"):
        read_image(series.folder, series="1.2.3")


@pytest.mark.parametrize("own", [True, False], ids=["own series", "same series"])
def test_a_scout_image_is_left_out_and_said(series, caplog, own):
    scout = Series(series.folder, count=1, uid=None if own else series.uid)
    scout.slices[0].ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]
    scout.slices[0].ImageOrientationPatient = [1, 0, 0, 0, 0, -1]
    scout.save(["A"])
    with caplog.at_level(logging.WARNING, "allukan"):
        image = read_image(series.save())
    assert (image.array[0] == series.values).all()
    assert "1 scout image left out, as A." in caplog.text


def test_a_volume_of_another_format_beside_slices_is_left_out_and_said(series, caplog):
    folder = series.save()
    (folder / "other.nii.gz").write_bytes(b"\x1f\x8b")
    (folder / "notes.txt").write_text("a text", encoding="utf-8")
    with caplog.at_level(logging.WARNING, "allukan"):
        image = read_image(folder)
    assert (image.array[0] == series.values).all()
    assert [record.message.partition(": ")[2] for record in caplog.records] == ["1 other volume left out, as other.nii.gz."]


def test_what_is_no_dicom_does_not_count_in_a_folder(series):
    series.save()
    (series.folder / "notes.txt").write_text("a note", encoding="utf-8")
    (series.folder / ".DS_Store").write_bytes(b"\0" * 600)
    (series.folder / "more").mkdir()
    assert (read_image(series.folder).array[0] == series.values).all()


def change(series, number, **elements):
    for name, value in elements.items():
        setattr(series.slices[number], name, value)


REFUSED = {
    "missing slice": (lambda s: s.slices.pop(2), r"1 slice is missing: from .*IM001 to .*IM002 it is 6 mm, elsewhere 3 mm"),
    "two missing": (lambda s: [s.slices.pop(2), s.slices.pop(2)], "2 slices are missing"),
    "uneven": (lambda s: change(s, 2, ImagePositionPatient=[-10, 20, 37]), "lies 1 mm off: slices are 2 to 4 mm apart"),
    "one place": (lambda s: change(s, 3, ImagePositionPatient=[-10, 20, 36]), r"lie in one place, as do 1 pairs \(a time series"),
    "aside": (lambda s: change(s, 2, ImagePositionPatient=[5, 20, 36]), r"IM002 lies 15 mm beside the line .*moved in between"),
    "angle": (lambda s: change(s, 2, ImageOrientationPatient=[1, 0, 0, 0, 0, -1]), r"IM002 lies at an angle .*a scout image"),
    "spacing": (lambda s: change(s, 2, PixelSpacing=[0.5, 0.8]), "they do not fit together"),
    "size": (lambda s: change(s, 2, Rows=4, PixelData=s.slices[2].PixelData[:48]), "has 4×6 pixels and .* 5×6"),
    "no place": (lambda s: delattr(s.slices[2], "ImagePositionPatient"), "has 0 frames with a place"),
    "direction": (lambda s: change(s, 0, ImageOrientationPatient=[1, 0, 0, 1, 0, 0]), "ImageOrientationPatient is"),
    "table": (lambda s: change(s, 0, ModalityLUTSequence=Sequence([])), "Modality LUT Sequence"),
    "high bit": (lambda s: change(s, 2, HighBit=15), r"IM002 says that its 12 bits end at bit 15 \(HighBit\) instead of 11"),
    "cut short": (lambda s: change(s, 0, PixelData=s.slices[0].PixelData[:30]), "is cut short or its header is wrong"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_series_that_are_no_volume_are_refused_in_one_sentence(series, case):
    spoil, sentence = REFUSED[case]
    spoil(series)
    with pytest.raises(UserError, match=sentence) as caught:
        read_image(series.save())
    assert "\n" not in str(caught.value)


def test_a_folder_without_images(tmp_path):
    assert not is_volume(tmp_path)
    with pytest.raises(UserError, match="holds no DICOM images"):
        read_image(tmp_path)


def test_a_claim_of_terabytes_is_refused_before_memory_is_taken(series):
    made = series.slices[0]
    made.Rows = made.Columns = 65535
    made.NumberOfFrames = 1000
    series.save()
    with pytest.raises(UserError, match="cut short or its header is wrong"):
        read_image(series.folder / "IM000")
    made.file_meta.TransferSyntaxUID = uid.RLELossless  # packed without bound: the claim itself is too much
    made.PixelData = encapsulate([b"\0" * 64])
    made["PixelData"].VR = "OB"
    series.save()
    with pytest.raises(UserError, match="at most 4294 million are read"):
        read_image(series.folder / "IM000")


def test_a_codec_that_is_not_read_is_named(series):
    series.slices[0].file_meta.TransferSyntaxUID = uid.HTJ2KLossless
    series.slices[0].PixelData = encapsulate([b"\0" * 64])
    series.slices[0]["PixelData"].VR = "OB"
    with pytest.raises(UserError, match=r"is compressed as High-Throughput JPEG 2000 .*, which is not read: decompress it"):
        read_image(series.save())


ENCODERS = {
    uid.JPEG2000Lossless: lambda a: imagecodecs.jpeg2k_encode(a, level=0, reversible=True, codecformat="j2k"),
    uid.JPEGLSLossless: imagecodecs.jpegls_encode,
    uid.JPEGLosslessSV1: lambda a: imagecodecs.jpeg8_encode(a, lossless=True),
}


@pytest.mark.parametrize("syntax", ENCODERS, ids=lambda syntax: syntax.keyword)
@pytest.mark.parametrize("signed", [False, True], ids=["unsigned", "signed"])
@pytest.mark.parametrize("bits", [12, 16])
def test_lossless_codecs_give_back_every_value(series, syntax, signed, bits):
    """Signed numbers of fewer bits than their bytes hold are where decoders differ."""
    low = -(2 ** (bits - 1)) if signed else 0
    values = np.random.default_rng(0).integers(low, low + 2**bits, (5, 6))
    made = series.slices[0]
    made.BitsStored, made.HighBit, made.PixelRepresentation, made.RescaleIntercept = bits, bits - 1, int(signed), 0
    stored = (values % 2**bits).astype(np.uint16)
    made.file_meta.TransferSyntaxUID = syntax
    made.PixelData = encapsulate([bytes(ENCODERS[syntax](stored))])
    made["PixelData"].VR = "OB"
    made.save_as(series.folder.parent / "x.dcm", enforce_file_format=True)
    assert (read_image(series.folder.parent / "x.dcm").array[0, 0] == values).all()


def test_white_as_zero_is_turned(series):
    series.slices[0].PhotometricInterpretation = "MONOCHROME1"
    series.slices = series.slices[:1]
    assert (read_image(series.save()).array[0] == 4095 - (series.values[:1] + 1024) - 1024).all()


def test_bits_above_those_stored_are_no_values(series):
    """Overlays of old files are kept there."""
    made = series.slices[0]
    dirty = np.frombuffer(made.PixelData, "<u2") | 0x9000
    made.PixelData = dirty.tobytes()
    assert (read_image(series.save()).array[0] == series.values).all()


def enhanced(series, **changes):
    """The series as one file of many frames, in shuffled order."""
    order = [3, 0, 5, 1, 4, 2]
    made = series.slices[0]
    made.NumberOfFrames = len(order)
    made.PixelData = b"".join(series.slices[i].PixelData for i in order)
    shared, frames = pydicom.Dataset(), []
    orientation, measures, scale = pydicom.Dataset(), pydicom.Dataset(), pydicom.Dataset()
    orientation.ImageOrientationPatient, measures.PixelSpacing = [1, 0, 0, 0, 1, 0], [0.5, 0.75]
    scale.RescaleSlope, scale.RescaleIntercept = 1, -1024
    shared.PlaneOrientationSequence, shared.PixelMeasuresSequence = [orientation], [measures]
    for i in order:
        place, frame = pydicom.Dataset(), pydicom.Dataset()
        place.ImagePositionPatient = [-10, 20, 30 + 3 * i]
        frame.PlanePositionSequence, frame.PixelValueTransformationSequence = [place], [pydicom.Dataset()]
        frame.PixelValueTransformationSequence[0].RescaleSlope = 1
        frame.PixelValueTransformationSequence[0].RescaleIntercept = -1024 + changes.get("step", 0) * i
        frames.append(frame)
    made.SharedFunctionalGroupsSequence, made.PerFrameFunctionalGroupsSequence = [shared], frames
    for name in ("ImageOrientationPatient", "ImagePositionPatient", "PixelSpacing", "RescaleSlope", "RescaleIntercept"):
        delattr(made, name)
    made.save_as(series.folder.parent / "enhanced.dcm", enforce_file_format=True)
    return series.folder.parent / "enhanced.dcm"


def test_many_frames_in_one_file(series):
    plain = read_image(series.save())
    image = read_image(enhanced(series))
    assert (image.array == plain.array).all()
    assert image.geometry == plain.geometry


def test_every_frame_has_its_own_intercept(series):
    found = read_image(enhanced(series, step=10)).array[0]
    assert (found == series.values + 10 * np.arange(6)[:, None, None]).all()


def test_a_film_is_no_volume(series):
    path = enhanced(series)
    made = pydicom.dcmread(path)
    del made.PerFrameFunctionalGroupsSequence
    made.save_as(path)
    with pytest.raises(UserError, match=r"holds 6 frames that do not say where they lie \(a film\?\)"):
        read_image(path)


def test_a_series_that_is_in_pydicom(pydicom_data):
    """CT2 of its media: four slices, of which others are missing."""
    folder = pydicom_data / "dicomdirtests" / "77654033" / "CT2"
    slices = [pydicom.dcmread(path) for path in sorted(folder.iterdir())]
    heights = sorted(float(made.ImagePositionPatient[2]) for made in slices)
    gap = max(b - a for a, b in pairwise(heights))
    with pytest.raises(UserError, match=f"slices are missing: from .* it is {gap:.4g} mm"):
        read_image(folder)
    image = read_image(pydicom_data / "dicomdirtests" / "98892001" / "CT5N")
    assert image.array.shape == (1, 5, 16, 16)
    assert image.spacing_mm == pytest.approx((2.5, 0.488281, 0.488281))
