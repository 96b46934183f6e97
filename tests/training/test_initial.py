"""A training that starts from given weights starts from exactly those, or says which do not fit."""

import logging
import shutil

import pytest
import pytorch_lightning as pl
import torch
import yaml
from safetensors.torch import load_file, save_file

from allukan.data import write_phantoms
from allukan.errors import UserError
from allukan.models import ModelCard, load_model, save_model
from allukan.training import TrainConfig, resume_config, train
from allukan.training.initial import take_weights

TOPOLOGY = {"topology": {"widths": [4, 4, 8, 8, 8]}}


def card(model="allukan-tiny", channels=1, classes=("0",), target="binary", **options):
    return ModelCard(model, channels, tuple(classes), target, (32, 32), (0.0,) * channels, (1.0,) * channels, options=options)


@pytest.fixture
def folder(tmp_path):
    """A model that nobody else starts with."""
    torch.manual_seed(7)
    given = card(**TOPOLOGY)
    model = given.build()
    for tensor in model.state_dict().values():
        tensor.copy_(torch.rand(tensor.shape) + 1)
    return save_model(tmp_path / "model", model, given)


def taken(folder, given, heads="keep"):
    """Names of the tensors that are those of the folder, and of those that are not, and what the network starts with anew."""
    torch.manual_seed(1)
    network = given.build()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    take_weights(network, given, str(folder), heads)
    theirs = load_file(folder / "model.safetensors")
    new = {name for name, value in network.state_dict().items() if name not in theirs or not torch.equal(value, theirs[name])}
    assert network.training
    assert all(torch.equal(network.state_dict()[name], before[name]) for name in new)
    return set(before) - new, new


def test_every_tensor_is_taken(folder, caplog):
    with caplog.at_level(logging.INFO, "allukan"):
        same, new = taken(folder, card(**TOPOLOGY))
    assert not new
    assert caplog.messages == [f"{len(same)} tensors start as in {folder}, none is new."]


def test_heads_start_anew_on_request(folder, caplog):
    with caplog.at_level(logging.INFO, "allukan"):
        same, new = taken(folder, card(classes=("a", "b", "c"), target="multiclass", **TOPOLOGY), "new")
    assert {name for name in new if "head" not in name} == set()
    assert {"head.weight", "head.bias", "head.coef"} <= new
    assert f"{len(same)} tensors start as in {folder}, new are head." in caplog.text


def test_other_channels_start_the_first_layers_anew(folder):
    with pytest.raises(UserError, match=r"encoder\.0.* is .*1x3x3 there and .*3x3x3 here.*--init-heads new"):
        taken(folder, card(channels=3, **TOPOLOGY))
    same, new = taken(folder, card(channels=3, **TOPOLOGY), "new")
    assert {name.split(".")[0] for name in new} == {"head", "encoder"}
    assert all(name.startswith(("head.", "encoder.0.")) for name in new)
    assert any(name.startswith("encoder.0.") for name in same)  # its further layers


@pytest.mark.parametrize(
    ("given", "word"),
    [
        (
            card(classes=("a", "b"), target="multilabel", **TOPOLOGY),
            r"1 binary class and .* 2 multilabel classes: add",
        ),
        (card(), r"head\.weight is 1x4x1x1 there and 1x8x1x1 here|encoder.* there and .* here, and \d+ more differ"),
        (card("convtwin-tiny", **TOPOLOGY), r"is missing there and 4 here, and \d+ more differ"),
        (card(**TOPOLOGY, norm="group"), r"running_mean is .* there and missing here"),
        (card(**TOPOLOGY, spline={"base": "gelu"}), r"mean something else .*base='silu'.* there and .*base='gelu'.* here"),
        (card(**TOPOLOGY, spline={"grid_range": [-4, 4]}), r"grid_range=\(-3.0, 3.0\).* there and .*grid_range=\(-4.0, 4.0\)"),
        (card(**TOPOLOGY, spline={"grid_size": 8}), r"coef is 1x13 there and 1x11 here"),
    ],
)
def test_what_does_not_fit_is_named(folder, given, word):
    with pytest.raises(UserError, match=word):
        taken(folder, given)


def test_the_same_number_of_logits_of_another_meaning(tmp_path):
    """Three logits of three classes, and of two classes and background."""
    three = card("convtwin-tiny", classes=("a", "b", "c"), target="multilabel", **TOPOLOGY)
    folder = save_model(tmp_path / "model", three.build(), three)
    two = card("convtwin-tiny", classes=("a", "b"), target="multiclass", **TOPOLOGY)
    assert three.out_channels == two.out_channels
    with pytest.raises(UserError, match=r"3 multilabel classes and .* 2 multiclass classes"):
        taken(folder, two)
    assert taken(folder, two, "new")[1] >= {"head.2.weight"}


def test_other_names_of_classes_are_told(folder, caplog):
    taken(folder, card(classes=("polyp",), **TOPOLOGY))
    assert f"the heads of {folder} are of 0, and are taken for polyp." in caplog.text


def test_stochastic_depth_may_differ(folder):
    dropped = {"topology": {**TOPOLOGY["topology"], "drop_path": 0.2}}
    assert not taken(folder, card(**dropped))[1]


def test_a_way_without_weights_is_no_less_part_of_the_network(tmp_path):
    """Depth 0 at full size adds the first map alone."""
    full, plain = card("convtwin-tiny", topology={**TOPOLOGY["topology"], "full_depth": 0}), card("convtwin-tiny", **TOPOLOGY)
    for given, other, words in (full, plain, "Identity.* there and missing"), (plain, full, "missing there and Identity"):
        folder = save_model(tmp_path / words[0], given.build(), given)
        with pytest.raises(UserError, match=f"mean something else in this network: full is {words}"):
            taken(folder, other)


@pytest.mark.slow
@pytest.mark.parametrize("model", ["edgekan-tiny", "ukan", "ukan-sprecher", "unet", "unetpp", "attention-unet", "plainconv"])
def test_every_kind_of_model_gives_its_weights_and_takes_new_heads(model, tmp_path):
    if model == "plainconv":
        pytest.importorskip("dynamic_network_architectures")
    folder = save_model(tmp_path / "model", card(model).build(), card(model))
    same, new = taken(folder, card(model))
    assert same and not new  # noqa: PT018
    same, new = taken(folder, card(model, channels=3, classes=("a", "b"), target="multiclass"), "new")
    assert len(new) < len(same)


class First(pl.Callback):
    """Keeps the weights before the first step."""

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if trainer.global_step == 0:
            self.training = pl_module.network.training and all(m.training for m in pl_module.network.modules())
            self.weights = {name: value.clone() for name, value in pl_module.network.state_dict().items()}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("initial") / "data"
    write_phantoms(folder, count=20, size=32, seed=0)
    return folder


def config(data, out, **options):
    usual = {"size": (32, 32), "epochs": 1, "accelerator": "cpu", "devices": "1", "model": "allukan-tiny", "options": TOPOLOGY}
    return TrainConfig(str(data), str(out), **{**usual, **options})


@pytest.mark.slow
def test_a_training_starts_from_the_given_weights_and_records_it(data, tmp_path):
    start = train(config(data, tmp_path / "start"))
    first = First()
    run = train(config(data, tmp_path / "run", init=str(start / "model"), seed=3, ema=0.9), callbacks=[first])
    given = load_file(start / "model/model.safetensors")
    assert first.training
    assert given.keys() == first.weights.keys()
    assert all(torch.equal(given[name], value) for name, value in first.weights.items())
    assert yaml.safe_load((run / "config.yaml").read_text())["init"] == str(start / "model")
    longer = resume_config(run, {"epochs": 2})
    again = First()
    shutil.rmtree(start)  # not needed any more: a resumed run has its own weights
    train(longer, resume=True, callbacks=[again])
    assert not hasattr(again, "weights")  # no step is the first one
    model, _ = load_model(run / "model")
    assert not torch.equal(model.state_dict()["head.weight"], given["head.weight"])


@pytest.mark.parametrize(
    ("given", "word"),
    [
        ({"init": "nowhere"}, "nowhere holds no trained model"),
        ({"init_heads": "new"}, "add --init RUN/model"),
        ({"init": "x", "init_heads": "some"}, "init_heads 'some'"),
    ],
)
def test_what_is_no_model_leaves_no_run(data, tmp_path, given, word):
    with pytest.raises(UserError, match=word):
        train(config(data, tmp_path / "run", **given))
    assert not (tmp_path / "run").exists()


def test_weights_that_are_not_finite_are_neither_saved_nor_loaded(folder, tmp_path):
    model, given = load_model(folder)
    state = load_file(folder / "model.safetensors")
    with torch.no_grad():
        model.head.weight[0] = float("inf")
    with pytest.raises(UserError, match=r"head\.weight of the model holds values that are not finite"):
        save_model(folder, model, given)
    with pytest.raises(UserError, match="is not written"):
        save_model(tmp_path / "new", model, given)
    assert not (tmp_path / "new").exists()
    assert all(torch.equal(value, state[name]) for name, value in load_file(folder / "model.safetensors").items())
    norm = next(name for name in state if name.endswith("running_var"))
    state[norm][0] = float("nan")  # statistics too
    save_file(state, folder / "model.safetensors")
    with pytest.raises(UserError, match=rf"model\.safetensors is of no use: {norm} holds values"):
        load_model(folder)
