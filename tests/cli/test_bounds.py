"""A hostile model file ends in one sentence by every command that opens it, and so do such values on the command line."""

import json
import shutil

import pytest


@pytest.fixture(
    params=[
        (
            {"options": {"spline": {"grid_size": 10**8}}},
            "grid_size must be a whole number of at least 1 and at most 256, got 100000000",
        ),
        ({"options": {"topology": {"widths": [65536] * 5}}}, "at most 4,000,000,000 are built"),
        ({"in_channels": 10**9}, "in_channels must be a whole number of at least 1 and at most 65536, got 1000000000"),
    ],
    ids=["grid_size", "widths", "in_channels"],
)
def hostile(request, trained, tmp_path):
    entries, sentence = request.param
    model = shutil.copytree(trained / "model", tmp_path / "model")
    card = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps(card | entries))
    return model, sentence


def test_predict_and_inspect_name_the_file(shell, hostile, phantoms, tmp_path):
    model, sentence = hostile
    for command in (["predict", model, phantoms / "images", "--out", tmp_path / "out"], ["inspect", model]):
        said = shell(*command).sentence
        assert sentence in said
        assert str(model / "config.json") in said
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--channels", 10**9], "--channels 1000000000 is not usable: give a whole number from 1 to 65536"),
        (["--classes", 10**6], "--classes 1000000 is not usable: give a whole number from 1 to 65536"),
        (["--set", "spline.grid_size=100000000"], "grid_size must be a whole number of at least 1 and at most 256"),
        (["--set", "topology.widths=[65536, 65536, 65536, 65536, 65536]"], "at most 4,000,000,000 are built"),
    ],
)
def test_inspect_has_the_same_bounds(shell, options, sentence):
    assert sentence in shell("inspect", "allukan-tiny", *options).sentence


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--size", 10**9], "give at most 16384 pixels a side"),
        (["--set", "options.spline.grid_size=100000000"], "grid_size must be a whole number of at least 1 and at most 256"),
        (["--set", "options.topology.widths=[65536, 65536, 65536, 65536, 65536]"], "at most 4,000,000,000 are built"),
        (["--sharing", 10**9], "a whole number of at least 1 and at most 65536, got 1000000000"),
    ],
)
def test_train_has_the_same_bounds(shell, phantoms, tmp_path, options, sentence):
    given = ["--model", "allukan-tiny", "--size", 32, "--accelerator", "cpu", "--devices", 1]
    assert sentence in shell("train", phantoms, "--out", tmp_path / "run", *given, *options).sentence
    assert not (tmp_path / "run").exists()
