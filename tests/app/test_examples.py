"""What the page offers to try: copies of what can be used, against the files they come from."""

import logging
import zipfile

import numpy as np
import pytest
from PIL import Image

from allukan.app import MEGABYTE, open_examples
from allukan.errors import UserError
from tests.data.volumes.conftest import Series


def test_pictures_are_copied_and_what_is_of_no_use_is_left_out(predictors, picture, tmp_path, caplog):
    folder, card = picture.parent, predictors["binary"].card
    (folder / "notes.txt").write_text("mine")
    (folder / "broken.png").write_bytes(picture.read_bytes()[:40])
    noise = np.random.default_rng(1).integers(0, 256, (700, 700), dtype=np.uint8)
    Image.fromarray(noise).save(folder / "large.png")
    with caplog.at_level(logging.WARNING):
        (example,) = open_examples(folder, card, tmp_path / "copies", MEGABYTE // 4)
    assert (example.name, [file.name for file in example.files]) == ("scan", ["scan.png"])
    assert example.files[0].read_bytes() == picture.read_bytes()
    assert [path for path in (tmp_path / "copies").rglob("*") if path.is_file()] == list(example.files)
    assert example.picture.shape == (341, 512, 3)
    told = [message for message in caplog.messages if message.startswith("left out")]
    assert "broken: broken.png cannot be read" in told[0]
    assert "large: the upload has more than 0.25 MB" in told[1]
    assert str(tmp_path / "copies") not in caplog.text


def test_of_a_dicom_folder_only_the_slices_are_packed(predictors, tmp_path):
    folder = Series(tmp_path / "in/thorax", count=16).save()
    (folder / "notes.txt").write_text("mine")
    slices = {path.name for path in folder.iterdir()} - {"notes.txt"}
    (example,) = open_examples(tmp_path / "in", predictors["volume"].card, tmp_path / "copies", 10**7)
    with zipfile.ZipFile(example.files[0]) as packed:
        assert set(packed.namelist()) == slices
    assert example.picture.ndim == 3


def test_a_folder_without_a_usable_image_is_refused(predictors, picture, tmp_path):
    card = predictors["binary"].card
    picture.write_bytes(b"RIFF    WEBP")
    with pytest.raises(UserError, match=r"sent holds no example that the model takes: scan: scan\.png "):
        open_examples(picture.parent, card, tmp_path / "copies", MEGABYTE)
    picture.unlink()
    with pytest.raises(UserError, match="no images in"):
        open_examples(picture.parent, card, tmp_path / "copies", MEGABYTE)
