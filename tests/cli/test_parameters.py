"""The command line is made from the classes of options, and its help says what is so."""

import inspect
import re
from importlib import import_module

import pytest

from allukan.cli.main import COMMANDS, load
from allukan.models import MODELS, ModelCard
from allukan.nn import KALayer, Spline
from allukan.options import TrainConfig, default_of, help_of
from allukan.options.words import hints


def helps(command):
    return {parameter.name: parameter.help or "" for parameter in load(command).params}


def test_train_has_a_parameter_for_every_option_with_its_help_and_default():
    found = helps("train")
    for name in hints(TrainConfig).keys() - {"options", "data"}:
        default = {"true": "yes", "false": "no"}.get(default_of(TrainConfig, name), default_of(TrainConfig, name))
        assert help_of(TrainConfig, name)[1:] in found[name]
        assert found[name].endswith(f"[{default}]") or not default


def test_every_option_says_what_it_does():
    for options in (TrainConfig, Spline, ModelCard):
        assert all(help_of(options, name) for name in hints(options))


@pytest.mark.parametrize("name", COMMANDS)
def test_the_list_of_commands_repeats_what_they_say_themselves(name):
    module = import_module(f"allukan.cli.{name}")
    if not hasattr(module, "app"):
        assert (inspect.getdoc(getattr(module, name)) or "").startswith(COMMANDS[name])


def test_the_defaults_by_protocol_are_those_in_force():
    for protocol, model, lr, spline_lr in [
        ("clean", "ukan", 3e-3, 3e-3),
        ("ukan", "ukan", 1e-4, 1e-2),
        ("ukan", "convtwin-base", 1e-4, 1e-4),
        ("clean", "allukan-base", 3e-3, pytest.approx(1e-2)),
        ("ukan", "allukan-paper-tiny", 1e-4, pytest.approx(1e-3 / 3)),
        ("clean", "edgekan-tiny", 3e-3, 3e-3),
    ]:
        config = TrainConfig("d", "o", protocol=protocol, model=model)
        assert (config.lr, config.spline_lr, config.augment) == (lr, spline_lr, ())
    assert helps("train")["lr"].endswith("[clean 3e-3, ukan 1e-4]")
    assert TrainConfig("d", "o", model="allukan-tiny", options={"spline": {"sharing": "edge"}}).spline_lr == 3e-3
    assert helps("train")["spline_lr"].endswith("else lr; by protocol ukan 1e-2 for model ukan]")


def claimed(text, model):
    """What ``[layer; allukan-paper- output; edgekan-, stackedkan-, ukan edge]`` says of a model."""
    default, *others = re.search(r"\[(.*)\]$", text).group(1).split("; ")
    for other in others:
        *families, value = re.split(r",? ", other)
        for family in families:
            if model == family or (family.endswith("-") and model.startswith(family)):
                default = value
    return default


@pytest.mark.parametrize("model", [name for name in MODELS if name.endswith("-tiny") or name == "ukan"])
def test_the_defaults_by_model_are_those_that_it_is_built_with(model):
    if model == "convtwin-tiny":
        pytest.skip("it has no spline")
    network = ModelCard(model, 1, ("a",), "binary", (32, 32), (), ()).outline()
    splines = {
        (m.spline.sharing, m.spline.input_grad) for m in network.modules() if isinstance(getattr(m, "spline", None), Spline)
    }
    assert splines == {(claimed(helps("train")["sharing"], model), claimed(helps("train")["input_grad"], model))}
    assert any(isinstance(m, KALayer) for m in network.modules()) or model == "stackedkan-tiny"


def test_every_model_is_in_the_help():
    text = helps("train")["model"]
    for model in MODELS:
        family, _, last = model.rpartition("-")
        sized = last in ("tiny", "small", "base")
        assert f"{family}-" in text if sized else (model in text or f"-{last}" in text), model
