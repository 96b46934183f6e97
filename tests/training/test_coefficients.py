"""Coefficients of every epoch, over interruptions too."""

from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file

from allukan.models import ModelCard
from allukan.nn.histogram import learned
from allukan.training import SegmentationModule, TrainConfig
from allukan.training.coefficients import Coefficients


def module(**options):
    card = ModelCard("allukan-tiny", 1, ("a",), "binary", (32, 32), (0.0,), (1.0,), options=options)
    return SegmentationModule(card.build(), card, TrainConfig("data", "run"))


def epochs(path, net, numbers):
    """Validates after these epochs; every coefficient is then the number of the epoch."""
    callback = Coefficients(path)
    for number in numbers:
        for layer in learned(net.network).values():
            torch.nn.init.constant_(layer.coef, number)
        callback.on_validation_epoch_end(SimpleNamespace(is_global_zero=True, current_epoch=number), net)


def test_every_layer_has_a_row_an_epoch_and_a_resumed_run_replaces_what_it_repeats(tmp_path):
    net, path = module(), tmp_path / "coefficients.safetensors"
    epochs(path, net, [0, 1, 2])
    epochs(path, net, [2, 3])  # interrupted in epoch 2
    found = load_file(path)
    assert found.keys() == learned(net.network).keys()
    for name, layer in learned(net.network).items():
        assert found[name].shape == (4, 1 + layer.coef.shape[1])
        assert found[name][:, 1].tolist() == [0, 1, 2, 3]
        assert found[name][3, 0] == pytest.approx(layer.base_weight.item())
    epochs(path, net, [0])  # a new run
    assert load_file(path)["head"][:, 1].tolist() == [0]


def test_epochs_that_nobody_kept_are_unknown(tmp_path):
    epochs(tmp_path / "c.safetensors", module(), [2])
    row = load_file(tmp_path / "c.safetensors")["head"][:, 1]
    assert row.isnan().tolist() == [True, True, False]


def test_layers_with_many_activations_are_left_out(tmp_path):
    epochs(tmp_path / "c.safetensors", module(spline={"sharing": "input"}), [0])
    assert not (tmp_path / "c.safetensors").exists()
