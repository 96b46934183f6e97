"""Networks that are named package.module:function: what is imported when, and what each refusal says."""

import json
import sys

import pytest
import torch
from torch import nn

from allukan import Predictor, load_model
from allukan.errors import UserError
from allukan.models import ModelCard, build_model, load_card, model_options, save_model
from allukan.nn import KAConv2d
from allukan.training.checks import check_logits

CODE = """
from torch import nn


class Small(nn.Sequential):
    def __init__(self, in_channels, out_channels, spatial_dims=2, width=4):
        norm = nn.BatchNorm2d(width)
        super().__init__(nn.Conv2d(in_channels, width, 3, padding=1), norm, nn.ReLU(), nn.Conv2d(width, out_channels, 1))


def small(in_channels, out_channels, spatial_dims=2, width=4):
    return Small(in_channels, out_channels, spatial_dims, width).eval()


def anything(**options):
    return Small(options["in_channels"], options["out_channels"], width=options["width"])


class Tied(nn.Module):
    def __init__(self, in_channels, out_channels, spatial_dims=2):
        super().__init__()
        self.body = Small(in_channels, out_channels)
        self.head = self.body[3]

    def forward(self, x):
        return self.body(x)


def pooled(in_channels, out_channels, spatial_dims):
    return nn.Sequential(Small(in_channels, out_channels), nn.MaxPool2d(2))


def doubled(in_channels, out_channels, spatial_dims):
    return Small(in_channels, 2 * out_channels)


class Two(Small):
    def forward(self, x):
        y = super().forward(x)
        return (y, y) if self.training else y


def broken(in_channels, out_channels, spatial_dims):
    raise RuntimeError("no weights here")


def nothing(in_channels, out_channels, spatial_dims):
    pass


def plain(in_channels):
    return nn.Conv2d(in_channels, 1, 1)


def large(in_channels, out_channels, spatial_dims):
    return nn.Sequential(nn.Flatten(), nn.Linear(in_channels * 64 * 64, out_channels))


five = 5
"""
FULL = {"in_channels": 1, "out_channels": 2}


@pytest.fixture
def code(tmp_path, monkeypatch):
    """A module ``own_nets`` in the current folder, which is not on the path."""
    (tmp_path / "own_nets.py").write_text(CODE)
    (tmp_path / "own_broken.py").write_text("import torch\nx = = 1\n")
    (tmp_path / "own_needy.py").write_text("import no_such_package_of_anyone\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry])
    for name in ("own_nets", "own_broken", "own_needy"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    yield tmp_path
    for name in ("own_nets", "own_broken", "own_needy"):
        sys.modules.pop(name, None)


def card(model, **options):
    return ModelCard(model, 1, ("a", "b"), "multilabel", (32, 32), (0.5,), (0.2,), options=options)


def test_it_is_called_with_the_shape_and_the_options(code):
    path = list(sys.path)
    network = build_model("own_nets:small", **FULL, width=6)
    assert network(torch.zeros(1, 1, 8, 8)).shape == (1, 2, 8, 8)
    assert network[0].out_channels == build_model("own_nets:anything", **FULL, width=6)[0].out_channels == 6
    assert sys.path == path
    assert model_options("own_nets:small") == ("width",)


REFUSED = {
    "own_nets": "unknown model 'own_nets'",
    "own nets:small": "write package.module:function",
    "own_nets:small:er": "write package.module:function",
    "no_such:small": "there is no module no_such; start in the folder that holds it",
    "own_nets.sub:small": "there is no module own_nets.sub",
    "own_needy:small": "own_needy needs the package no_such_package_of_anyone",
    "own_broken:small": "SyntaxError: invalid syntax",
    "own_nets:smal": "own_nets has no 'smal': did you mean 'small'",
    "own_nets:five": "own_nets:five is an int: name a function",
    "own_nets:broken": "fails when it is called: RuntimeError: no weights here (",
    "own_nets:nothing": "returned None, and a network is a torch.nn.Module",
    "own_nets:plain": "does not take out_channels",
}


@pytest.mark.parametrize("model", REFUSED)
def test_what_cannot_be_built_is_told_in_one_sentence(code, model):
    with pytest.raises(UserError) as caught:
        card(model).build()
    assert REFUSED[model] in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_option_that_it_has_not_is_refused(code):
    with pytest.raises(UserError, match="no option 'widht': did you mean 'width'"):
        card("own_nets:small", widht=3).build()


LOGITS = {
    "own_nets:pooled": r"returns logits \(2, 2, 16, 16\) and the images have \(32, 32\) pixels",
    "own_nets:doubled": "returns 4 channels and the classes need 2",
    "own_nets:Two": "in training mode returns tuple: return the logits alone",
    "own_nets:large": r"fails on images \(2, 1, 32, 32\) \(RuntimeError: .*another --size",
}


@pytest.mark.parametrize("model", LOGITS)
def test_logits_that_are_none_are_told_before_a_training(code, model):
    given = card(model)
    with pytest.raises(UserError, match=LOGITS[model]) as caught:
        check_logits(given.build(), given)
    assert "\n" not in str(caught.value)


def test_looking_at_the_logits_leaves_no_trace(code):
    given = card("own_nets:small")
    network, random = given.build(), torch.get_rng_state()
    check_logits(network, given)
    assert torch.equal(random, torch.get_rng_state())
    assert network[1].num_batches_tracked == 0


def test_what_comes_in_evaluation_mode_is_built_for_training(code):
    assert not build_model("own_nets:small", **FULL).training
    for options in ({}, {"convert": True}):
        assert all(module.training for module in card("own_nets:small", **options).build().modules())


@pytest.fixture
def folder(code):
    given = card("own_nets:small", width=6, convert=True)
    saved = save_model(code / "model", given.build(), given)
    del sys.modules["own_nets"]
    return saved


def test_a_folder_is_loaded_with_trust_alone(folder):
    sentence = "would import the module own_nets and call its small: add --trust"
    for load in (load_model, Predictor):
        with pytest.raises(UserError, match=sentence):
            load(folder)
    assert load_card(folder).model == "own_nets:small"
    assert "own_nets" not in sys.modules
    network, given = load_model(folder, trust=True)
    assert (type(network[3]), given.options) == (KAConv2d, {"width": 6, "convert": True})
    assert Predictor(folder, "cpu", trust=True)(torch.zeros(20, 30, dtype=torch.uint8).numpy()).masks.shape == (2, 20, 30)


def test_a_name_that_is_no_code_is_no_model(folder):
    config = folder / "config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "model": "os;system:x"}))
    with pytest.raises(UserError, match=r"config\.json is not a model description .*package\.module:function"):
        load_model(folder, trust=True)


def test_models_of_ours_need_no_trust(tmp_path):
    given = card("unet", channels=[4, 4, 4, 4, 4])
    save_model(tmp_path, given.build(), given)
    assert isinstance(load_model(tmp_path)[0], nn.Module)


def test_weights_under_two_names_are_saved(code):
    """As nnU-Net's decoder holds its encoder."""
    given = card("own_nets:Tied")
    network = given.build().eval()
    x = torch.randn(1, given.in_channels, 8, 8)
    assert torch.equal(load_model(save_model(code / "tied", network, given), trust=True)[0](x), network(x))
