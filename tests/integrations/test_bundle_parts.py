"""The steps of a bundle, one after the other in this process, against the predictor: every kind of masks."""

import dataclasses
import json

import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser
from monai.data import MetaTensor
from monai.transforms import Compose
from PIL import Image

from allukan.errors import UserError
from allukan.inference import Predictor
from allukan.integrations.bundle import export_bundle, inference, metadata
from allukan.integrations.bundle_parts import FusedInferer, ReadImage, SaveMasks, ToMasks, counted, images
from allukan.integrations.source import open_source
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


def test_masks_that_are_there_stay(folder, tmp_path):
    """An output_dir may be that of the dataset, whose masks have the same names."""
    card = load_model(folder)[1]
    mine = tmp_path / "data/masks/x.png"
    mine.parent.mkdir(parents=True)
    mine.write_text("mine")
    image = MetaTensor(torch.zeros(2, 4, 4), meta={"name": "x"})
    with pytest.raises(UserError, match="masks is not empty: choose another output_dir"):
        SaveMasks(str(tmp_path / "data"), card)({"image": image, "pred": torch.ones(2, 4, 4)})
    assert [path.name for path in mine.parent.iterdir()] == ["x.png"]
    assert mine.read_text() == "mine"


@pytest.mark.parametrize("name", ["tumour #2", "$__import__('os').getcwd()", "@device", "%fat", "a@::b"])
def test_a_text_that_means_something_to_monai_is_refused(folder, tmp_path, name):
    """A class would get another name, and an expression would be run."""
    source = open_source(folder)
    odd = dataclasses.replace(source, card=dataclasses.replace(source.card, classes=("a", name)))
    with pytest.raises(UserError, match="means something of its own in a configuration of MONAI"):
        export_bundle(odd, tmp_path / "bundle")
    assert not (tmp_path / "bundle").exists()


def test_what_counts_is_looked_at_where_the_labels_are():
    """On a GPU in evaluation, to which MONAI takes image and label alone."""
    masks, counts = torch.ones(2, 4, 4, dtype=torch.bool), torch.ones(1, 4, 4, dtype=torch.bool)
    for device in ("meta", "cpu"):
        found = counted(masks, {"counts": counts, "label": torch.zeros(2, 4, 4, device=device)})
        assert found.device.type == device
