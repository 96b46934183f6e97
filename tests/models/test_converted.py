"""The option ``convert``: networks that are not ours become Kolmogorov–Arnold, and the same again when they are loaded."""

import pytest
import torch
from safetensors.torch import load_file

from allukan import load_model
from allukan.errors import UserError
from allukan.models import ModelCard, ka_layers, save_model

NARROW = {"channels": [4, 4, 8, 8, 8]}


def card(model="unet", **options):
    return ModelCard(model, 1, ("a",), "binary", (32, 32), (0.0,), (1.0,), options=options)


@pytest.mark.parametrize("model", ["unet", "unetpp", "attention-unet"])
def test_it_starts_as_the_same_function(model):
    options = NARROW
    torch.manual_seed(3)
    plain = card(model, **options).build().eval()
    torch.manual_seed(3)
    found = card(model, **options, convert=True).build().eval()
    x = torch.randn(2, 1, 40, 32)
    assert len(ka_layers(found)) > 8
    assert not ka_layers(plain)
    torch.testing.assert_close(found(x), plain(x), rtol=1e-5, atol=1e-5)


def test_splines_are_those_of_the_options_and_norms_are_in_the_layers():
    layers = ka_layers(card(**NARROW, convert=True, spline={"grid_size": 8, "sharing": "input"}).build()).values()
    assert {(layer.spline.grid_size, layer.spline.sharing) for layer in layers} == {(8, "input")}
    assert any(layer.norm is not None for layer in layers)


def test_a_folder_is_loaded_as_what_it_was(tmp_path):
    given = card(**NARROW, convert=True)
    network = given.build()
    for layer in ka_layers(network).values():
        torch.nn.init.normal_(layer.coef, std=0.3)
    save_model(tmp_path, network, given)
    again, found = load_model(tmp_path)
    x = torch.randn(1, 1, 32, 32)
    assert torch.equal(again(x), network.eval()(x))
    assert found == given
    assert any(name.endswith("norm.weight") for name in load_file(tmp_path / "model.safetensors"))


REFUSED = {
    "ours": (card("allukan-tiny", convert=True), "'allukan-tiny' is one of our networks"),
    "twin": (card("convtwin-tiny", convert=False), "leave convert out"),
    "value": (card(convert="yes"), "convert must be true or false, got 'yes'"),
    "spline": (card(**NARROW, convert=True, spline={"grid": 8}), "grid"),
    "base": (card(**NARROW, convert=True, spline={"base": "relu"}), "'unet' cannot be converted: spline has base 'relu'"),
    "ka": (card("allukan:AllUKAN", size="tiny", convert=True), "'allukan:AllUKAN' has Kolmogorov–Arnold layers already"),
    "large": (card(channels=[9000] * 5, convert=True), "at most 4,000,000,000 are built"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_converted_is_told_in_one_sentence(case):
    given, words = REFUSED[case]
    with pytest.raises(UserError) as caught:
        given.build()
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
