"""A network of one's own from the shell: trained and converted, and opened by every command with --trust alone."""

import sys

import pytest

CODE = """
from torch import nn


def small(in_channels, out_channels, spatial_dims=2, width=4):
    layers = nn.Conv2d(in_channels, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU(), nn.Conv2d(width, out_channels, 1)
    return nn.Sequential(*layers).eval()


def wrong(in_channels, out_channels, spatial_dims=2):
    return nn.Conv2d(in_channels, out_channels + 1, 1)
"""
HOW = ["--size", 32, "--epochs", 1, "--accelerator", "cpu", "--devices", 1]
SENTENCE = "would import the module shell_nets and call its small: add --trust"


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """The folder that holds the code."""
    root = tmp_path_factory.mktemp("own")
    (root / "shell_nets.py").write_text(CODE)
    return root


@pytest.fixture(autouse=True)
def here(place, monkeypatch):
    monkeypatch.chdir(place)
    yield
    sys.modules.pop("shell_nets", None)


@pytest.fixture
def run(place, shell, phantoms):
    """Trained and evaluated once."""
    run = place / "run"
    if not run.exists():
        convert = ["--set", "options.convert=true", "--set", "options.width=6", "--sharing", "input"]
        done = shell("train", phantoms, "--out", run, "--model", "shell_nets:small", *HOW, *convert)
        assert done.code == 0, done.err
        assert done.out.endswith(f"Next: allukan evaluate {run} --trust\n")
        assert shell("evaluate", run, "--trust").code == 0
    sys.modules.pop("shell_nets", None)
    return run


COMMANDS = {
    "evaluate": lambda run, phantoms, out: [run],
    "predict": lambda run, phantoms, out: [run / "model", phantoms / "images", "--out", out / "masks"],
    "inspect": lambda run, phantoms, out: [run / "model"],
    "inspect --activations": lambda run, phantoms, out: [run / "model"],
    "export": lambda run, phantoms, out: [run, "--format", "onnx", "--out", out / "model.onnx"],
    "report": lambda run, phantoms, out: [run, "--out", out / "report.html"],
}


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_open_the_folder_with_trust_alone(shell, run, phantoms, tmp_path, command):
    words = [*command.split(), *COMMANDS[command](run, phantoms, tmp_path)]
    assert SENTENCE in shell(*words).sentence
    assert "shell_nets" not in sys.modules
    done = shell(*words, "--trust")
    assert done.code == 0, done.err


def test_compare_builds_it_with_trust_alone(shell, run, phantoms, tmp_path):
    other = tmp_path / "other"
    assert shell("train", phantoms, "--out", other, "--model", "shell_nets:small", *HOW).code == 0
    assert shell("evaluate", other, "--trust").code == 0
    assert SENTENCE in shell("compare", run, other).sentence
    assert "KA" in shell("inspect", run / "model", "--trust", "--layers").out
    assert shell("compare", run, other, "--trust").code == 0


def test_a_name_is_inspected_as_the_word_of_the_user(shell):
    done = shell("inspect", "shell_nets:small", "--set", "convert=true", "--size", 32, "--layers")
    assert done.code == 0, done.err
    assert "KAConv2d" in done.out


def test_it_goes_on_and_starts_from_its_own_weights(shell, run, phantoms, tmp_path):
    same = ["--set", "options.convert=true", "--set", "options.width=6", "--sharing", "input", "--init", run / "model"]
    done = shell("train", phantoms, "--out", tmp_path / "next", "--model", "shell_nets:small", *HOW, *same)
    assert done.code == 0, done.err
    assert "none is new" in done.err
    sys.modules.pop("shell_nets", None)
    more = ["--out", tmp_path / "next", "--resume", "--epochs", 2]
    assert shell("train", *more).sentence.startswith(
        f"allukan: {tmp_path / 'next'} names 'shell_nets:small', so using it {SENTENCE}"
    )
    assert "shell_nets" not in sys.modules
    assert shell("train", *more, "--trust").code == 0
    sys.modules.pop("shell_nets", None)
    said = shell("train", phantoms, "--out", tmp_path / "ours", "--model", "unet", *HOW, "--init", run / "model").sentence
    assert "are of 'shell_nets:small', and this training is of 'unet'" in said
    assert "shell_nets" not in sys.modules


def test_a_file_of_options_is_trusted_by_the_word_of_the_user_alone(shell, phantoms, tmp_path):
    config, plan, out = tmp_path / "options.yaml", tmp_path / "study.yaml", tmp_path / "run"
    config.write_text("model: shell_nets:wrong\n")
    plan.write_text(f"data: {{a: {phantoms}}}\nmodels: {{own: {{model: shell_nets:wrong}}}}\nprotocols: [clean]\nseeds: [0]\n")
    train = ["train", phantoms, "--out", out, "--config", config, *HOW]
    study = ["study", plan, "--out", out]
    for words, file in ((train, config), (study, plan), ([*study, "--dry-run"], plan)):
        said = shell(*words).sentence
        assert f"{file} names 'shell_nets:wrong', so using it {SENTENCE.replace('small', 'wrong')}" in said
        assert "shell_nets" not in sys.modules
        assert not out.exists()
    for trusted in ([*train, "--trust"], [*train, "--model", "shell_nets:wrong"], [*train, "--set", "model=shell_nets:wrong"]):
        assert "returns 2 channels" in shell(*trusted).sentence


def test_what_is_wrong_with_it_is_said_before_the_training(shell, phantoms, tmp_path):
    for model, words in {
        "shell_nets:wrong": "returns 2 channels and the classes need 1",
        "shell_nets:smal": "did you mean 'small'",
        "nowhere:small": "there is no module nowhere",
    }.items():
        assert words in shell("train", phantoms, "--out", tmp_path / "run", "--model", model, *HOW).sentence
        assert not (tmp_path / "run").exists()
