"""DICOM files of one frame through the same commands as a PNG."""

import json

import numpy as np
import pydicom
import pytest
from PIL import Image

from allukan.data import open_dataset, read_masks
from allukan.errors import UserError
from allukan.files import read_table
from tests.data.volumes.conftest import Series

TRAIN = ["--model", "convtwin-tiny", "--size", 32, "--epochs", 2, "--batch-size", 4, "--accelerator", "cpu", "--devices", 1]
HIDDEN = (900, 1000)  # HU of what is to be found, among 4,096 that are possible


def scene(number):
    """A body of 950 HU on tissue of 40 ± 20, with a metal pixel of 3,071; and where it is."""
    random = np.random.default_rng(number)
    values = np.rint(random.normal(40, 20, (36, 40)))
    top, left = random.integers(2, 16, 2)
    place = np.zeros((36, 40), bool)
    place[top : top + 14, left : left + 14] = True
    values[place] = random.integers(*HIDDEN, place.sum())
    values[0, 0], values[0, 1] = 3071, -1024
    return values.astype(int), place


def slices(folder, count=10):
    """A file a slice, ID.dcm; series with a place, as PACS export them."""
    made, places = Series(folder, count), []
    for number, one in enumerate(made.slices):
        values, place = scene(number)
        one.Rows, one.Columns = values.shape
        one.PixelData = (values + 1024).astype("<u2").tobytes()
        places.append(place)
    made.save([f"s{number}.dcm" for number in range(count)])
    return places


def png_masks(folder, places):
    folder.mkdir(parents=True)
    for number, place in enumerate(places):
        Image.fromarray(place.astype(np.uint8) * 255).save(folder / f"s{number}.png")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    root = tmp_path_factory.mktemp("dicom")
    png_masks(root / "masks", slices(root / "images"))
    return root


@pytest.fixture(scope="module")
def run(data, tmp_path_factory):
    from allukan.training import TrainConfig, train

    out = tmp_path_factory.mktemp("runs") / "run"
    options = {"size": 32, "epochs": 2, "batch_size": 4, "accelerator": "cpu", "devices": "1"}
    return train(TrainConfig(str(data), str(out), model="convtwin-tiny", **options))


def test_check_tells_what_it_sees(shell, data):
    found = shell("data", "check", data)
    assert found.code == 0, found.err
    assert "36×40 (10)" in found.out
    assert "CT 12 bit grey (10)" in found.out
    assert "10 of 10 images have more than 8 bits, and keep their values" in " ".join(found.out.split())


def test_ct_is_clipped_to_its_foreground_as_volumes_are(run):
    card = json.loads((run / "model/config.json").read_text())
    ((low, high, mean, std),) = card["intensities"]
    assert (card["spatial_dims"], card["normalisation"], card["in_channels"]) == (2, "image", 1)
    assert HIDDEN[0] <= low < mean < high < HIDDEN[1]
    assert 20 < std < 40


def test_train_evaluate_and_predict(shell, data, run, tmp_path):
    done = shell("evaluate", run, "--device", "cpu")
    assert done.code == 0, done.err
    assert len(read_table(run / "evaluation/cases.csv")) == len(json.loads((run / "splits.json").read_text())["test"])
    done = shell("predict", run, data / "images", "--out", tmp_path / "out", "--device", "cpu")
    assert (done.code, done.err) == (0, "")
    assert sorted(path.name for path in (tmp_path / "out/masks").iterdir()) == sorted(f"s{n}.png" for n in range(10))
    mask = np.asarray(Image.open(tmp_path / "out/masks/s3.png"))
    assert mask.shape == (36, 40)
    assert set(np.unique(mask)) <= {0, 255}


def test_masks_as_dicom_seg_of_each_file(shell, data, run, tmp_path):
    hd = pytest.importorskip("highdicom", reason="the extra allukan[dicom] is not installed")
    Image.fromarray(np.zeros((40, 40), np.uint16)).save(tmp_path / "x.png")
    inputs = [data / "images/s3.dcm", tmp_path / "x.png"]
    shell("predict", run, inputs[0], "--out", tmp_path / "png", "--device", "cpu")
    done = shell("predict", run, *inputs, "--out", tmp_path / "out", "--format", "dicom-seg", "--device", "cpu")
    assert done.code == 2
    assert "x.png: a DICOM SEG belongs to a DICOM series with a file a slice, which this is not: write PNG." in done.err
    made = hd.seg.segread(tmp_path / "out/masks/s3.dcm")
    source = pydicom.dcmread(inputs[0])
    found = made.get_pixels_by_source_instance([source.SOPInstanceUID])[0, ..., 0]
    assert np.array_equal(found > 0, np.asarray(Image.open(tmp_path / "png/masks/s3.png")) > 0)


def test_masks_may_be_dicom_too(data, tmp_path):
    places = slices(tmp_path / "images", 4)
    made = Series(tmp_path / "masks", 4)
    for one, place in zip(made.slices, places, strict=True):
        one.Rows, one.Columns = place.shape
        one.BitsAllocated, one.BitsStored, one.HighBit, one.RescaleIntercept = 8, 8, 7, 0
        one.PixelData = (place.astype(np.uint8) * 2).tobytes()
    made.save([f"s{number}.dcm" for number in range(4)])
    dataset = open_dataset(tmp_path)
    assert (dataset.spatial_dims, dataset.classes) == (2, ("2",))
    for case, place in zip(dataset.cases, places, strict=True):
        assert np.array_equal(read_masks(case, dataset)[0] > 0, place)
    made.slices[0].PhotometricInterpretation = "MONOCHROME1"
    made.save([f"s{number}.dcm" for number in range(4)])
    with pytest.raises(UserError, match=r"s0\.dcm is a DICOM file whose zero is white"):
        open_dataset(tmp_path)
