"""A folder of NIfTI through the same commands as a PNG."""

import nibabel
import numpy as np
import pytest

from allukan.files import read_table
from tests.volume_sets import blobs

TRAIN = ["--model", "convtwin-tiny", "--epochs", "1", "--batch-size", "2", "--accelerator", "cpu", "--devices", "1"]
AFFINE = np.array([[0, -1.5, 0, 5], [1, 0, 0, -6], [0, 0.1, 1, 7], [0, 0, 0, 1]])


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return blobs(tmp_path_factory.mktemp("data"), affine=AFFINE)


def test_check_train_evaluate_and_predict(shell, data, tmp_path):
    checked = shell("data", "check", data)
    assert checked.code == 0
    assert "depth×height×width" in checked.out
    run = tmp_path / "run"
    trained = shell("train", data, "--out", run, *TRAIN, "--augment", "affine")
    assert trained.code == 0, trained.err
    assert "a 3D network, convtwin-tiny" in trained.err
    done = shell("evaluate", run, "--device", "cpu")
    assert done.code == 0, done.err
    assert "HD95 (mm)" in done.out
    out = tmp_path / "out"
    done = shell("predict", run, data / "imagesTr", "--out", out, "--device", "cpu")
    assert (done.code, done.err) == (0, "")
    for path in (data / "imagesTr").iterdir():
        image, mask = nibabel.load(path), nibabel.load(out / "masks" / path.name)
        assert mask.shape == image.shape
        assert np.array_equal(mask.affine, image.affine)
    assert sorted(path.name for path in out.iterdir()) == ["masks", "volumes.csv"]
    again = shell("predict", run / "model", data / "imagesTr/b00.nii.gz", "--out", tmp_path / "one", "--device", "cpu")
    assert again.code == 0
    options = ["--keep-largest", "one, two", "--min-volume", 1, "--tta", "--out", tmp_path / "clean", "--device", "cpu"]
    assert shell("predict", run, data / "imagesTr/b00.nii.gz", *options).code == 0
    assert len(read_table(tmp_path / "clean/volumes.csv")) == 2
    for wrong, words in (
        (["--keep-largest", "three"], "names 'three'"),
        (["--min-volume", "-1"], "at least 0"),
        (["--format", "dicom"], "unknown format 'dicom'"),
    ):
        assert words in shell("predict", run, data / "imagesTr", "--out", tmp_path / "no", *wrong).sentence
        assert not (tmp_path / "no").exists()
    first, second = (np.asanyarray(nibabel.load(f / "masks/b00.nii.gz").dataobj) for f in (out, tmp_path / "one"))
    assert np.array_equal(first, second)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--size", "64"], "size 64x64 is of pictures"),
        (["--size", "8x8x0"], "at least 1 voxel"),
        (["--spacing-mm", "1,1"], "give depth,height,width"),
        (["--augment", "speckle"], "2D ultrasound"),
        (["--protocol", "ukan"], "ukan is of pictures"),
    ],
)
def test_wrong_options_are_told_in_one_sentence(shell, data, tmp_path, options, words):
    assert words in shell("train", data, "--out", tmp_path / "run", *TRAIN, *options).sentence
    assert not (tmp_path / "run").exists()
