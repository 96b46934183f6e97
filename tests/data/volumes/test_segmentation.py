"""DICOM SEG, read back with pydicom and highdicom."""

import sys

import numpy as np
import pydicom
import pytest

from allukan.data.volumes import read_image, write_segmentation
from allukan.errors import UserError
from tests.data.volumes.conftest import numbers

hd = pytest.importorskip("highdicom", reason="the extra allukan[dicom] is not installed")


def test_segments_lie_on_the_slices_that_they_belong_to(series, tmp_path):
    series.slices.reverse()
    image = read_image(series.save())
    labels = np.random.default_rng(3).choice([0, 1, 4], image.geometry.shape)
    write_segmentation(tmp_path / "out" / "seg.dcm", labels, image, {1: "liver", 4: "tumour"})
    made = hd.seg.segread(tmp_path / "out" / "seg.dcm")
    assert [d.SegmentLabel for d in made.SegmentSequence] == ["liver", "tumour"]
    sources = [pydicom.dcmread(path) for path in image.source.paths]
    found = made.get_pixels_by_source_instance([source.SOPInstanceUID for source in sources])
    for number, value in enumerate((1, 4)):
        assert (found[..., number] == (labels == value)).all()
    assert made.FrameOfReferenceUID == sources[0].FrameOfReferenceUID
    with pytest.raises(UserError, match="is a segmentation and no image"):
        read_image(tmp_path / "out" / "seg.dcm")


def test_a_map_without_any_foreground(series, tmp_path):
    image = read_image(series.save())
    write_segmentation(tmp_path / "seg.dcm", np.zeros(image.geometry.shape, int), image, {1: "liver"})
    assert not pydicom.dcmread(tmp_path / "seg.dcm").pixel_array.any()


def test_what_is_no_segmentation(series, tmp_path, nifti):
    image = read_image(series.save())
    labels = np.ones(image.geometry.shape, int)
    with pytest.raises(UserError, match=r"the labels \[1\] have no name"):
        write_segmentation(tmp_path / "seg.dcm", labels, image, {2: "liver"})
    other = read_image(nifti(numbers("int16")))
    with pytest.raises(UserError, match="belongs to a DICOM series with a file a slice"):
        write_segmentation(tmp_path / "seg.dcm", np.ones(other.geometry.shape, int), other, {1: "liver"})
    with pytest.raises(UserError, match="is the image itself"):
        write_segmentation(series.folder / "IM000", labels, image, {1: "liver"})
    assert not (tmp_path / "seg.dcm").exists()


def test_a_turned_series_has_no_segmentation(series, tmp_path):
    """Its slices are those of the files no longer, although there are as many."""
    image = read_image(series.save())
    assert image.reoriented("SPL").source == image.source
    with pytest.raises(UserError, match="belongs to a DICOM series with a file a slice"):
        write_segmentation(tmp_path / "seg.dcm", np.ones(image.geometry.shape, int), image.reoriented("IPL"), {1: "liver"})


def test_the_extra_is_named_where_it_is_missing(series, tmp_path, monkeypatch):
    image = read_image(series.save())
    monkeypatch.setitem(sys.modules, "highdicom", None)
    with pytest.raises(UserError, match=r"pip install 'allukan\[dicom\]'"):
        write_segmentation(tmp_path / "seg.dcm", np.ones(image.geometry.shape, int), image, {1: "liver"})
