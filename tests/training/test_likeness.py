"""The likeness of validation images that a training leaves with its model, against a calibration on the images themselves."""

import numpy as np
import pytest
import torch

from allukan.data import Prepared, Volumes
from allukan.data.volumes import Geometry, Image
from allukan.inference import LikenessCheck, Predictor
from allukan.inference.inputs import VolumeInput
from allukan.models import ModelCard, load_likeness, load_model, save_likeness, save_model
from allukan.nn.likeness import calibrate
from allukan.training import TrainConfig
from allukan.training.likeness import keep_likeness
from allukan.training.volume_sets import Sets

CONFIG = TrainConfig("data", "run")
CPU = torch.device("cpu")


def saved(folder, dims, model="allukan-tiny", **card):
    size = (32,) * dims
    options = {"topology": {"widths": [2, 2, 4, 4, 4]}}
    described = ModelCard(model, 1, ("a",), "binary", size, (0.25,), (0.5,), spatial_dims=dims, options=options, **card)
    torch.manual_seed(0)
    save_model(folder, described.build(), described)
    return load_model(folder)[0]


def pictures(count):
    images = torch.randint(0, 256, (count, 1, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    held = Prepared(tuple(map(str, range(count))), images, torch.zeros_like(images), ((32, 32),) * count)
    return Sets(held, held)


def test_it_is_of_the_validation_images_as_the_network_takes_them(tmp_path):
    network, sets = saved(tmp_path, 2), pictures(9)
    keep_likeness(tmp_path, CONFIG, sets, CPU)
    want = calibrate(network, [(image.float()[None] / 255 - 0.25) / 0.5 for image in sets.val.images])
    found = load_likeness(tmp_path, network)
    assert found.distances.shape == want.distances.shape
    assert torch.allclose(found.distances, want.distances, atol=1e-3)


def test_of_many_images_two_hundred_are_taken(tmp_path, monkeypatch):
    network = saved(tmp_path, 2)
    monkeypatch.setattr("allukan.models.inputs_met.MOST", 10)
    keep_likeness(tmp_path, CONFIG, pictures(30), CPU)
    assert len(load_likeness(tmp_path, network).distances) == 10


@pytest.mark.parametrize(("model", "count"), [("allukan-tiny", 8), ("convtwin-tiny", 9)])
def test_of_few_images_and_without_splines_there_is_none(tmp_path, model, count):
    saved(tmp_path, 2, model)
    keep_likeness(tmp_path, CONFIG, pictures(count), CPU)
    assert not (tmp_path / "likeness.safetensors").exists()


def test_of_volumes_it_is_of_their_middle(tmp_path):
    network = saved(tmp_path, 3, normalisation="image", spacing_mm=(1.0, 1.0, 1.0))
    arrays = np.random.default_rng(0).normal(size=(9, 1, 40, 32, 33)).astype(np.float32)
    grid = Geometry((40, 32, 33), (1.0, 1.0, 1.0), (0.0, 0.0, 0.0), ((0.0, 0.0, 1.0), (0.0, 1.0, 0.0), (1.0, 0.0, 0.0)))
    images = tuple(Image(array, grid) for array in arrays)
    held = Volumes(tuple("abcdefghi"), images, tuple(torch.zeros(array.shape, dtype=torch.uint8) for array in arrays))
    keep_likeness(tmp_path, CONFIG, Sets(held, held), CPU)
    want = calibrate(network, [torch.from_numpy(array[None, :, 4:36, :, :32].copy()) for array in arrays])
    assert torch.allclose(load_likeness(tmp_path, network).distances, want.distances, atol=1e-3)


@pytest.mark.slow
def test_a_volume_is_judged_by_its_middle_at_the_voxels_of_the_training(tmp_path):
    network = saved(tmp_path, 3, normalisation="image", spacing_mm=(2.0, 1.0, 1.0))
    grid = Geometry((20, 40, 40), (4.0, 1.0, 1.0), (0.0, 0.0, 0.0), ((0.0, 0.0, 1.0), (0.0, 1.0, 0.0), (1.0, 0.0, 0.0)))
    array = np.random.default_rng(0).normal(50, 9, (1, 20, 40, 40)).astype(np.float32)
    generator = torch.Generator().manual_seed(0)
    likeness = calibrate(network, [torch.randn(1, 1, 32, 32, 32, generator=generator) for _ in range(9)])
    save_likeness(tmp_path, likeness)
    check = LikenessCheck.of(Predictor(tmp_path, "cpu"), tmp_path)
    taken = VolumeInput(Image(array, grid)).of(check.predictor.card)
    assert taken.shape == (1, 40, 40, 40)
    want = likeness.score(network, taken[None, :, 4:36, 4:36, 4:36])
    assert check(Image(array, grid)) == pytest.approx(want, rel=1e-4)
    row = check.row("deep/scan", Image(array, grid))
    assert (row["id"], row["unlike"]) == ("deep/scan", row["score"] > row["threshold"])
