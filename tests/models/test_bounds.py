"""What a model file may ask for: everything else ends in one sentence that names the file, before any memory is taken."""

import json
import time

import pytest
import torch

from allukan.errors import UserError
from allukan.models import MODELS, ModelCard, load_card, load_model, model_options, save_model
from allukan.nn import KALinear, Spline

CARD = ModelCard("allukan-tiny", 1, ("a",), "binary", (32, 32), (0.5,), (0.2,))


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    return save_model(tmp_path_factory.mktemp("models") / "model", CARD.build(), CARD)


@pytest.fixture
def asking(saved, tmp_path):
    """The folder, with other entries in its ``config.json``."""

    def change(**entries):
        given = json.loads((saved / "config.json").read_text()) | entries
        (tmp_path / "config.json").write_text(json.dumps(given))
        (tmp_path / "model.safetensors").write_bytes((saved / "model.safetensors").read_bytes())
        return tmp_path

    return change


def spline(**options):
    return {"options": {"spline": options}}


def topology(**options):
    return {"options": {"topology": options}}


HOSTILE = [
    (spline(grid_size=10**8), "grid_size must be a whole number of at least 1 and at most 256, got 100000000"),
    (spline(spline_order=10**6), "spline_order must be a whole number of at least 1 and at most 10, got 1000000"),
    (spline(grid_range=[-1e308, 1e308]), "grid_range must be two numbers between -1e6 and 1e6"),
    (spline(sharing=10**9), "a whole number of at least 1 and at most 65536, got 1000000000"),
    (topology(widths=[10**5] * 5), "widths must be five whole numbers of at least 1 and at most 65536"),
    (topology(strides=[2] * 10**6), "strides must be one to nine of 1 or 2"),
    (topology(strides=[3]), "strides must be one to nine of 1 or 2"),
    (topology(kernels=[[3, 9]] * 6), "kernels must be of 1 or 3"),
    (topology(widths=[65536] * 5), "has 708,682,908,251 parameters: at most 4,000,000,000 are built"),
    (topology(depth=10**6), "depth must be a whole number of at least 1 and at most 100"),
    (topology(token_depth=10**6), "token_depth must be a whole number of at least 1 and at most 100"),
    ({"in_channels": 10**9}, "in_channels must be a whole number of at least 1 and at most 65536, got 1000000000"),
    ({"classes": [str(i) for i in range(10**6)]}, "classes must be at most 65536 names, got \\['0', '1'"),
    ({"size": [10**9, 10**9]}, "size must be two numbers of pixels of at most 16384"),
    ({"spatial_dims": 7}, "spatial_dims must be a whole number of at least 2 and at most 3, got 7"),
    ({"model": "x" * 10**5}, "unknown model 'xxx"),
    ({"model": "alukan-tiny"}, "did you mean 'allukan-tiny'"),
    ({"target": "binari"}, "unknown target 'binari': did you mean 'binary'"),
    ({"files": [{"pattern": "*", "channels": 10**9}]}, "channels must be a whole number of at least 1 and at most 65536"),
    ({"files": 3}, "files must be entries with pattern, channels and name, got 3"),
    ({"threshold": True}, "threshold must be a number, got True"),
    ({"mean": [float("nan")]}, "mean must be numbers, got \\[nan\\]"),
    ({"label_values": [True]}, "label_values must be whole numbers"),
    ({"classes": "ab"}, "classes must be at most 65536 names, got 'ab'"),
    ({"momentum": 1}, "unknown entry of a model 'momentum'"),
    ({"model": "unet", "options": {"channels": [10**5] * 5}}, "channels must be at most 16 widths of at most 65536"),
    ({"model": "unet", "options": {"channels": [65536] * 5}}, "parameters: at most 4,000,000,000 are built"),
    ({"model": "attention-unet", "options": {"channels": [4] * 3000}}, "channels must be at most 16 widths"),
    ({"model": "edgekan-base", **spline(grid_size=256)}, "model.safetensors does not fit the architecture 'edgekan-base'"),
]


@pytest.mark.parametrize(("entries", "sentence"), HOSTILE)
def test_load_model_refuses_in_one_short_sentence_and_at_once(asking, entries, sentence):
    folder = asking(**entries)
    before = time.perf_counter()
    with pytest.raises(UserError, match=sentence) as caught:
        load_model(folder)
    assert time.perf_counter() - before < 10
    assert str(folder) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize("content", ["[]", "3", "null", "{", '{"a":' * 10**5, '{"in_channels": ' + "9" * 5000 + "}"])
def test_a_file_that_holds_no_model_at_all(saved, tmp_path, content):
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(UserError, match=r"config\.json is not a model description that allukan .* reads"):
        load_card(tmp_path)


def test_a_model_of_version_0_1_is_read(saved, tmp_path):
    raw = json.loads((saved / "config.json").read_text())
    old = {
        key: raw[key] for key in ("model", "in_channels", "classes", "target", "size", "mean", "std", "spatial_dims", "options")
    }
    (tmp_path / "config.json").write_text(json.dumps(old | {"threshold": 0.5, "version": "0.1.0"}))
    assert load_card(tmp_path).image_files[0].pattern == "*"
    (tmp_path / "config.json").write_text(json.dumps(old | {"target": "multiclass", "classes": ["1", "4"]}))
    assert load_card(tmp_path).label_values == (1, 4)


def test_what_is_largest_works():
    layer = KALinear(2, 2, spline=Spline(grid_size=256, spline_order=10))
    out = layer(torch.randn(3, 2))
    out.sum().backward()
    assert out.isfinite().all()
    assert layer.coef.grad.isfinite().all()


def test_an_outline_takes_no_memory_and_no_random_number():
    state = torch.get_rng_state()
    outline = CARD.outline()
    assert torch.equal(torch.get_rng_state(), state)
    assert all(parameter.is_meta for parameter in outline.parameters())
    assert {n: p.shape for n, p in outline.named_parameters()} == {n: p.shape for n, p in CARD.build().named_parameters()}


def test_every_model_of_the_factory_can_be_named_by_a_card():
    for name in MODELS:
        assert ModelCard(name, 1, ("a",), "binary", (32, 32), (), ()).model == name
        assert model_options(name)
