"""The steps of a bundle, one after the other in this process, against the predictor: every kind of masks."""

import json

import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser
from monai.transforms import Compose
from PIL import Image

from allukan.errors import UserError
from allukan.inference import Predictor
from allukan.integrations.bundle import inference, metadata
from allukan.integrations.bundle_parts import FusedInferer, ReadImage, SaveMasks, ToMasks, images
from allukan.models import ImageFile, ModelCard, load_model, save_model
from tests.integrations.conftest import SMALL, uneven

TWO_FILES = (ImageFile("*_0000", 1, "T1"), ImageFile("*_0001", 1, "T2"))


@pytest.fixture(params=[("multiclass", (3, 400)), ("multilabel", ())], ids=lambda p: p[0])
def folder(request, tmp_path):
    target, values = request.param
    about = {"mean": (0.5, 0.4), "std": (0.2, 0.3), "options": SMALL, "label_values": values, "files": TWO_FILES}
    card = ModelCard("allukan-tiny", 2, ("a", "b"), target, (32, 40), **about)
    return save_model(tmp_path / "model", uneven(card.build()), card)


@pytest.fixture
def pictures(tmp_path):
    random = np.random.default_rng(0)
    (tmp_path / "images").mkdir()
    for name in ("x", "y"):
        for number in range(2):
            array = random.integers(0, 256, (37, 61), dtype=np.uint8)
            Image.fromarray(array).save(tmp_path / f"images/{name}_{number:04d}.png")
    return tmp_path / "images"


@torch.inference_mode()
def test_masks_are_those_of_the_predictor(folder, pictures, tmp_path):
    network, card = load_model(folder)
    predictor, inferer = Predictor(folder, "cpu"), FusedInferer()
    after = Compose([ToMasks(card), SaveMasks(str(tmp_path / "out"), card)])
    found = images(str(pictures), card)
    assert [(item["name"], len(item["image"])) for item in found] == [("x", 2), ("y", 2)]
    for item in found:
        read = ReadImage(card)(item)
        pred = inferer(read["image"].unsqueeze(0), network)[0]
        wanted = predictor(item["image"]).masks
        assert np.array_equal(after({**read, "pred": pred})["pred"].numpy() > 0, wanted)
        assert 0.01 < wanted.mean() < 0.99
    written = {path.relative_to(tmp_path / "out/masks").as_posix() for path in (tmp_path / "out/masks").rglob("*.png")}
    assert written == ({"x.png", "y.png"} if card.target == "multiclass" else {"a/x.png", "a/y.png", "b/x.png", "b/y.png"})


def test_an_image_without_all_its_files_is_named(folder, pictures):
    (pictures / "x_0001.png").unlink()
    with pytest.raises(UserError, match="x_0000"):
        images(str(pictures), load_model(folder)[1])


def test_numbers_that_are_not_finite_are_no_masks(folder, pictures):
    card = load_model(folder)[1]
    read = ReadImage(card)(images(str(pictures), card)[0])
    with pytest.raises(UserError, match="x with numbers that are not finite"):
        ToMasks(card)({**read, "pred": torch.full((card.out_channels, 32, 40), float("nan"))})


def test_the_card_survives_the_configuration(folder):
    card = load_model(folder)[1]
    parser = ConfigParser(json.loads(json.dumps(inference(card))))
    assert parser.get_parsed_content("card") == card
    channels = metadata(card)["network_data_format"]["inputs"]["image"]["channel_def"]
    assert channels == {"0": "T1", "1": "T2"}
