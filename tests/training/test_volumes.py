"""Trainings on small volumes from beginning to end."""

import json

import pytest
import pytorch_lightning as pl
import torch
import yaml

from allukan.data import write_phantoms
from allukan.errors import UserError
from allukan.files import read_table
from allukan.training import TrainConfig, resume_config, train
from allukan.training import run as run_module
from tests.volume_sets import HIPPOCAMPUS, blobs, hippocampus


@pytest.fixture(scope="session")
def data(tmp_path_factory):
    return blobs(tmp_path_factory.mktemp("volumes"))


def config(data, out, **given):
    options = {"model": "convtwin-tiny", "epochs": 1, "batch_size": 2, "accelerator": "cpu", "devices": "1"}
    return TrainConfig(str(data), str(out), **{**options, **given})


def test_a_folder_of_volumes_trains_with_no_option_of_its_own(data, tmp_path):
    run = train(config(data, tmp_path / "run", augment="affine,elastic,intensity"))
    card = json.loads((run / "model/config.json").read_text())
    assert (card["spatial_dims"], card["size"], card["spacing_mm"]) == (3, [20, 28, 24], [1, 1, 1])
    assert (card["normalisation"], card["classes"], card["label_values"]) == ("image", ["one", "two"], [1, 2])
    options = yaml.safe_load((run / "config.yaml").read_text())
    assert (options["size"], options["spacing_mm"], options["batch_size"]) == ([20, 28, 24], [1.0, 1.0, 1.0], 2)
    assert (options["intensities"], card["intensities"]) == (["image"], [None])
    assert options["options"] == card["options"] == {"topology": {"strides": [[2, 2, 2]] * 2, "kernels": [[3, 3, 3]] * 3}}
    row = read_table(run / "history.csv")[0]
    assert 0 <= float(row["val_dice"]) <= 1


class Cut(pl.Callback):
    """Stands for a power cut after the first epoch."""

    def on_train_epoch_start(self, trainer, pl_module):
        if trainer.current_epoch == 1:
            raise KeyError


def test_a_resumed_training_ends_as_if_never_interrupted(data, tmp_path, monkeypatch):
    options = {"epochs": 2, "size": "16x16x16", "augment": "affine"}
    whole = train(config(data, tmp_path / "whole", **options))
    with pytest.raises(KeyError):
        train(config(data, tmp_path / "cut", **options), callbacks=[Cut()])
    monkeypatch.setattr(run_module, "planned", None)  # a resumed run keeps its plan
    resumed = train(resume_config(tmp_path / "cut", {}), resume=True)
    first, second = (torch.load(run / "last.ckpt", weights_only=True)["state_dict"] for run in (whole, resumed))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_patches_of_another_size_and_voxels_are_what_the_model_says(data, tmp_path):
    run = train(config(data, tmp_path / "run", size="16x24x16", spacing_mm="1.5,1,1.2"))
    card = json.loads((run / "model/config.json").read_text())
    assert (card["size"], card["spacing_mm"]) == ([16, 24, 16], [1.5, 1.0, 1.2])


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"size": 64}, "size 64x64 is of pictures"),
        ({"protocol": "ukan"}, "ukan is of pictures"),
        ({"augment": "speckle"}, "speckle is the noise of 2D ultrasound"),
        ({"intensities": "image,ct"}, "intensities are of 2 channels, and images have 1"),
        ({"batch_size": 1, "size": "16x16x16", "options": {"topology": {"strides": [2] * 5}}}, "batch norm has a single value"),
    ],
)
def test_what_volumes_cannot_have_is_refused_before_anything_is_written(data, tmp_path, given, words):
    with pytest.raises(UserError, match=words):
        train(config(data, tmp_path / "run", **given))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"size": "32x32x32"}, "32x32x32 is of volumes"),
        ({"spacing_mm": "1,1,1"}, "spacing_mm is of volumes"),
        ({"intensities": "ct"}, "intensities are of volumes"),
        ({"cache": "c"}, "cache is of volumes"),
    ],
)
def test_what_pictures_cannot_have_is_refused(tmp_path, given, words):
    write_phantoms(tmp_path / "data", 12, 32, 0)
    with pytest.raises(UserError, match=words):
        train(config(tmp_path / "data", tmp_path / "run", **given))


@pytest.mark.parametrize("given", ["1,1", "a,b,c", "1,1,0", [1, 1], 3])
def test_a_spacing_that_is_none_is_refused(given):
    with pytest.raises(UserError, match=r"spacing_mm .* is not usable: give depth,height,width"):
        config("d", "o", spacing_mm=given)


@pytest.mark.slow
@pytest.mark.skipif(not HIPPOCAMPUS.is_file(), reason="the volumes are not on this machine")
def test_the_hippocampus_is_learned_in_a_few_epochs(tmp_path):
    data = hippocampus(tmp_path / "data", 24)
    run = train(config(data, tmp_path / "run", model="allukan-tiny", epochs=8))
    card = json.loads((run / "model/config.json").read_text())
    assert card["size"] == [40, 56, 40]  # as nnU-Net plans it
    assert max(float(row["val_dice"]) for row in read_table(run / "history.csv")) > 0.3
