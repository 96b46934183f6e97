"""Runs as small as they can be, as exporters take seconds a layer."""

import dataclasses
from pathlib import Path

import pytest
import torch

from allukan.models import load_model, save_model
from tests.cli.conftest import phantoms, shell  # noqa: F401

SMALL = {"topology": {"widths": [4, 4, 8, 8, 8], "depth": 1, "token_depth": 1}}


@pytest.fixture(scope="session")
def trained(tmp_path_factory, phantoms) -> Path:  # noqa: F811
    """A run of one epoch, evaluated, whose splines and norms are made uneven; tests read it and write elsewhere."""
    from allukan.inference import Predictor, evaluate, open_run
    from allukan.training import TrainConfig, train

    run = tmp_path_factory.mktemp("runs") / "run"
    options = {"size": (32, 32), "epochs": 1, "accelerator": "cpu", "devices": "1", "options": SMALL}
    train(TrainConfig(str(phantoms), str(run), model="allukan-tiny", **options))
    model, card = load_model(run / "model")
    save_model(run / "model", uneven(model), dataclasses.replace(card, threshold=0.45))
    evaluate(open_run(run), predictor=Predictor(run / "model", "cpu"))
    return run


def uneven(network):
    """Weights as after a long training: every spline bent, every norm with statistics of its own."""
    torch.manual_seed(3)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if name.endswith("coef"):
                parameter.add_(torch.randn_like(parameter) * 0.3)
        for module in network.modules():
            if getattr(module, "running_var", None) is not None:
                module.running_mean.normal_(std=0.2)
                module.running_var.uniform_(0.5, 2.0)
    return network
