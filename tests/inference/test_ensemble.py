"""Several models as one: the mean of their probabilities, each at its own size and voxels."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from allukan.data.volumes import Geometry, Image
from allukan.errors import UserError
from allukan.inference import Ensemble, Predictor
from allukan.inference.inputs import VolumeInput
from allukan.models import ModelCard, save_model

PICTURES = ModelCard("convtwin-tiny", 1, ("a", "b"), "multilabel", (32, 48), (0.4,), (0.2,))
VOLUMES = ModelCard(
    "convtwin-tiny",
    1,
    ("a", "b"),
    "multiclass",
    (16, 16, 16),
    (0.0,),
    (1.0,),
    spatial_dims=3,
    normalisation="image",
    spacing_mm=(1.0, 1.0, 1.0),
)


def saved(folder, card, seed):
    torch.manual_seed(seed)
    network = card.build()
    with torch.no_grad():
        list(network.head.children())[-1].weight.mul_(20)  # far from 0.5
    return save_model(folder, network, card)


def test_of_pictures(tmp_path):
    cards = (PICTURES, replace(PICTURES, size=(32, 32), mean=(0.1,)), PICTURES)
    members = [Predictor(saved(tmp_path / str(n), card, n), "cpu") for n, card in enumerate(cards)]
    picture = np.random.default_rng(0).integers(0, 256, (40, 30), dtype=np.uint8)
    found, each = Ensemble(members)(picture), [member(picture).probabilities for member in members]
    assert np.allclose(found.probabilities, np.mean(each, 0), atol=1e-6)
    assert np.array_equal(found.masks, found.probabilities > 0.5)
    assert not np.allclose(each[0], each[1], atol=0.01)


@pytest.mark.slow
def test_of_volumes(tmp_path):
    cards = (VOLUMES, replace(VOLUMES, spacing_mm=(2.0, 1.0, 1.0)))
    members = [Predictor(saved(tmp_path / str(n), card, n), "cpu", tta=bool(n)) for n, card in enumerate(cards)]
    values = np.random.default_rng(0).normal(size=(1, 20, 14, 18)).astype(np.float32)
    image = Image(values, Geometry.of_pixels(values.shape[1:], (1, 1, 1)).moved(Geometry.of_pixels((20, 14, 18)).axes_to("SAR")))
    image = Image(np.ascontiguousarray(values.reshape(1, *image.geometry.shape)), image.geometry)
    told = []
    ensemble = Ensemble(members)
    numbers, found = ensemble.number(image, np.float32, lambda *now: told.append(now))
    mean = np.mean([member(image).probabilities for member in members], 0)
    assert np.allclose(found, mean, atol=1e-6)
    assert (numbers[0] != mean.argmax(0)).mean() < 1e-3  # where two classes are level
    assert told[-1] == (len(told), len(told))  # every window of both
    assert np.array_equal(ensemble.masks(image), ensemble(image).masks)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"classes": ("a", "c")}, "models 0 and 1 differ in classes"),
        ({"threshold": 0.3}, "differ in threshold"),
        ({"label_values": (1, 2)}, "differ in label_values"),
    ],
)
def test_what_has_no_mean(tmp_path, changed, words):
    cards = (PICTURES, replace(PICTURES, **changed))
    members = [Predictor(saved(tmp_path / str(n), card, n), "cpu") for n, card in enumerate(cards)]
    with pytest.raises(UserError, match=words):
        Ensemble(members)


def test_no_models():
    with pytest.raises(UserError, match="one model at least"):
        Ensemble([])


def test_members_that_take_a_volume_alike_share_it():
    volume = VolumeInput(Image(np.ones((1, 4, 6, 8), np.int16), Geometry.of_pixels((4, 6, 8), (2, 1, 1))))
    assert volume.of(VOLUMES) is volume.of(replace(VOLUMES, size=(32, 16, 16)))
    assert volume.of(VOLUMES).shape == (1, 8, 6, 8)
    assert volume.of(replace(VOLUMES, spacing_mm=(2.0, 2.0, 2.0))).shape == (1, 4, 3, 4)


def test_members_that_were_trained_on_other_intensities_see_their_own():
    values = np.array([-1000, -100, 40, 300], np.int16).reshape(1, 1, 2, 2)
    volume = VolumeInput(Image(values, Geometry.of_pixels((1, 2, 2))))
    card = replace(VOLUMES, spacing_mm=(1.0, 1.0, 1.0))
    clipped = volume.of(replace(card, intensities=((-160.0, 240.0, 40.0, 20.0),)))
    assert sorted(clipped.flatten().tolist()) == [-10, -7, 0, 10]
    assert volume.of(card).mean().item() == pytest.approx(0, abs=1e-6)
