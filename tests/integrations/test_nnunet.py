"""Plans for nnU-Net: what is written from those of its own planner, and that the networks speak as it expects."""

import json
import shutil
from math import prod
from pathlib import Path
from pydoc import locate

import numpy as np
import pytest
import torch

from allukan.integrations.nnunet import write_plans
from allukan.integrations.nnunet_networks import ConvertedUNet, PlannedAllUKAN
from allukan.nn import KALayer

PLANS = Path(__file__).parent / "nnunet_plans"
UNETS = "dynamic_network_architectures.architectures.unet"


@pytest.fixture
def planned(tmp_path):
    """A folder of preprocessed data with the plans of a set."""

    def make(name="hippocampus"):
        folder = tmp_path / "Dataset004_Hippocampus"
        folder.mkdir(exist_ok=True)
        shutil.copy(PLANS / f"{name}.json", folder / "nnUNetPlans.json")
        return folder

    return make


def plans_of(path):
    return json.loads(path.read_text(encoding="utf-8"))


def built(configuration, deep_supervision=True, channels=1, classes=3, **changed):
    """As nnU-Net builds the network of a configuration (``get_network_from_plans``)."""
    architecture = configuration["architecture"]
    given = architecture["arch_kwargs"] | changed
    given |= {name: locate(given[name]) for name in architecture["_kw_requires_import"] if given[name] is not None}
    network = locate(architecture["network_class_name"])(
        input_channels=channels, num_classes=classes, deep_supervision=deep_supervision, **given
    )
    if hasattr(network, "initialize"):
        network.apply(network.initialize)
    return network


def sizes_asked(configuration):
    """Of the targets that nnU-Net's trainer compares with: ``_get_deep_supervision_scales``."""
    strides = np.cumprod(configuration["architecture"]["arch_kwargs"]["strides"], axis=0)[:-1]
    return [tuple(int(n // s) for n, s in zip(configuration["patch_size"], stride, strict=True)) for stride in strides]


@pytest.mark.parametrize("network", ["allukan", "convert"])
@pytest.mark.parametrize("name", ["hippocampus", "prostate", "liver"])
def test_only_the_network_changes(planned, name, network):
    folder = planned(name)
    given, written = plans_of(folder / "nnUNetPlans.json"), write_plans(folder, network=network)
    plans = plans_of(written.path)
    assert plans | {"configurations": 0} == given | {"configurations": 0, "plans_name": written.path.stem}
    assert tuple(plans["configurations"]) == written.configurations
    assert {*given["configurations"]} == {*written.configurations, *written.left_out}
    for configuration, made in plans["configurations"].items():
        theirs = given["configurations"][configuration]
        assert theirs["data_identifier"].endswith(f"Plans_{configuration}")
        assert made | {"architecture": 0} == {k: v for k, v in theirs.items() if k != "next_stage"} | {"architecture": 0}
        assert made["architecture"]["arch_kwargs"]["strides"] == theirs["architecture"]["arch_kwargs"]["strides"]


def test_a_cascade_is_left_out_and_nothing_refers_to_it(planned):
    written = write_plans(planned("liver"))
    assert written.left_out == {"3d_cascade_fullres": "a cascade"}
    assert "cascade" not in written.path.read_text(encoding="utf-8")


@pytest.mark.parametrize("name", ["prostate", "liver"])
def test_outputs_are_what_the_trainer_compares_with(planned, name):
    for configuration in plans_of(write_plans(planned(name)).path)["configurations"].values():
        with torch.device("meta"):
            network = built(configuration)
            outputs = network(torch.zeros(2, 1, *configuration["patch_size"]))
        assert [tuple(y.shape) for y in outputs] == [(2, 3, *size) for size in sizes_asked(configuration)]


def test_stages_are_as_wide_as_planned(planned):
    plans = plans_of(write_plans(planned("prostate")).path)
    with torch.device("meta"):
        network = built(plans["configurations"]["3d_fullres"])
    assert [head.in_channels for head in network.heads] == [320, 256, 128, 64, 32]
    assert network.head.in_channels == 32
    first = next(module for module in network.modules() if isinstance(module, KALayer))
    assert tuple(first.weight.shape[2:]) == (1, 3, 3)


SMALL = {"features_per_stage": [4, 4, 6, 8]}


def test_deep_supervision_is_switched_where_nnunet_does_and_in_no_other_way(planned):
    configuration = plans_of(write_plans(planned()).path)["configurations"]["2d"]
    network, x = built(configuration, **SMALL), torch.randn(2, 1, 56, 40)
    for training in (True, False):
        network.train(training)
        network.decoder.deep_supervision = True
        levels = network(x)
        network.decoder.deep_supervision = False
        assert torch.equal(network(x), levels[0])
        assert isinstance(levels, list)
    predicting = built(configuration, deep_supervision=False, **SMALL)
    predicting.load_state_dict(network.state_dict())
    assert torch.equal(predicting.eval()(x), levels[0])


def test_every_weight_learns_and_none_is_initialised_by_nnunet(planned):
    network = built(plans_of(write_plans(planned()).path)["configurations"]["3d_fullres"], **SMALL)
    sum(y.square().mean() for y in network(torch.randn(2, 1, 16, 16, 24))).backward()
    assert not [name for name, parameter in network.named_parameters() if parameter.grad is None]
    assert not hasattr(network, "initialize")


def test_options_of_a_plan_reach_the_network(planned):
    configuration = plans_of(write_plans(planned()).path)["configurations"]["2d"]
    count = {
        n: sum(p.numel() for p in built(configuration, **SMALL, **more).parameters())
        for n, more in {"usual": {}, "grid": {"spline": {"grid_size": 4}}, "deep": {"topology": {"depth": 3}}}.items()
    }
    assert count["grid"] < count["usual"] < count["deep"]
    batch = built(configuration, norm="batch", **SMALL)
    assert any(isinstance(module, torch.nn.BatchNorm2d) for module in batch.modules())


CONVERTED = {"features_per_stage": [4, 6, 8], "strides": [[1, 1], [2, 2], [2, 1]], "kernel_sizes": [[3, 3]] * 3, "n_stages": 3}
KINDS = {
    "PlainConvUNet": {"n_conv_per_stage": [2, 1, 2], "n_conv_per_stage_decoder": [2, 1]},
    "ResidualEncoderUNet": {"n_blocks_per_stage": [1, 2, 1], "n_conv_per_stage_decoder": [1, 1]},
}


def unet_of(kind):
    """A configuration of a small U-Net of nnU-Net, and the network with weights as after a training."""
    pytest.importorskip("dynamic_network_architectures")
    given = plans_of(PLANS / "hippocampus.json")["configurations"]["2d"]
    architecture = {
        "network_class_name": f"{UNETS}.{kind}",
        "arch_kwargs": {k: v for k, v in given["architecture"]["arch_kwargs"].items() if "n_conv" not in k}
        | CONVERTED
        | KINDS[kind],
        "_kw_requires_import": given["architecture"]["_kw_requires_import"],
    }
    torch.manual_seed(1)
    network = built({"architecture": architecture})
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return given | {"architecture": architecture}, network


@pytest.fixture(scope="module", params=KINDS)
def trained_unet(request, tmp_path_factory):
    """A checkpoint as ``nnUNetTrainer.save_checkpoint`` writes it, and its network."""
    configuration, network = unet_of(request.param)
    plans = {"plans_name": "nnUNetPlans", "configurations": {"2d": configuration}}
    path = tmp_path_factory.mktemp("results") / "checkpoint_final.pth"
    started = {"plans": plans, "configuration": "2d", "fold": 0, "dataset_json": {}, "device": torch.device("cpu")}
    content = {"network_weights": network.state_dict(), "init_args": started, "_best_ema": np.float64(0.5)}
    torch.save(content | {"logging": {"train_losses": [np.float32(0.25)], "lrs": [0.01]}}, path)
    return path, plans, network


def test_a_trained_unet_goes_on_as_ka_layers(trained_unet, tmp_path, shell):
    checkpoint, plans, network = trained_unet
    (tmp_path / "nnUNetPlans.json").write_text(json.dumps(plans), encoding="utf-8")
    assert shell("nnunet", "weights", checkpoint, tmp_path / "start.pth").code == 0
    ours = built(plans_of(write_plans(tmp_path, network="convert").path)["configurations"]["2d"])
    start = torch.load(tmp_path / "start.pth", weights_only=True)["network_weights"]
    assert not [name for name in start if ".seg_layers." in name]  # nnU-Net would not take these over
    ours.load_state_dict(start)
    x = torch.randn(2, 1, 16, 24)
    for training in (True, False):
        theirs = network.train(training)(x)
        for mine, their in zip(ours.train(training)(x), theirs, strict=True):
            torch.testing.assert_close(mine, their, rtol=1e-4, atol=1e-4)
    ours.decoder.deep_supervision = False
    torch.testing.assert_close(ours(x), theirs[0], rtol=1e-4, atol=1e-4)
    assert sum(isinstance(module, KALayer) for module in ours.modules()) == len(ours.conversion.layers) > 8


def test_a_new_converted_net_holds_each_weight_once_and_all_learn():
    configuration, _ = unet_of("PlainConvUNet")
    given = configuration["architecture"]["arch_kwargs"]
    network = ConvertedUNet(2, 4, locate(f"{UNETS}.PlainConvUNet"), **{k: located(v) for k, v in given.items()})
    assert len(network.state_dict()) == len({tensor.data_ptr() for tensor in network.state_dict().values()})
    sum(y.square().mean() for y in network(torch.randn(2, 2, 16, 24))).backward()
    assert not [name for name, parameter in network.named_parameters() if parameter.grad is None]


def located(value):
    return locate(value) if isinstance(value, str) else value


@pytest.mark.parametrize(
    ("content", "word"),
    [
        ({"network_weights": {}}, "is no checkpoint of nnU-Net v2: it has no 'init_args'"),
        ({"network_weights": {}, "init_args": None}, "is no checkpoint of nnU-Net v2"),
        ({"x": Path("x")}, "cannot be read as a checkpoint of nnU-Net"),  # code that a pickle would run
    ],
)
def test_what_is_no_checkpoint_is_refused(tmp_path, shell, content, word):
    torch.save(content, tmp_path / "c.pth")
    assert word in shell("nnunet", "weights", tmp_path / "c.pth", tmp_path / "out.pth").sentence
    assert not (tmp_path / "out.pth").exists()


def test_a_checkpoint_of_another_network_and_a_file_in_use_are_refused(tmp_path, shell, planned):
    plans = plans_of(write_plans(planned()).path)
    weights = PlannedAllUKAN(1, 2, [[1, 1], [2, 2]], [[3, 3]] * 2, [4, 4]).state_dict()
    torch.save({"network_weights": weights, "init_args": {"plans": plans, "configuration": "2d"}}, tmp_path / "c.pth")
    assert "PlannedAllUKAN, and only U-Nets" in shell("nnunet", "weights", tmp_path / "c.pth", tmp_path / "out.pth").sentence
    assert "nothing is overwritten" in shell("nnunet", "weights", tmp_path / "c.pth", tmp_path / "c.pth").sentence


@pytest.fixture
def command(planned, shell, monkeypatch):
    """``allukan nnunet plans`` on a set whose plans are there."""

    def run(*words, name="hippocampus"):
        monkeypatch.setenv("nnUNet_preprocessed", str(planned(name).parent))
        return shell("nnunet", "plans", *words)

    return run


def test_the_command_writes_plans_and_says_how_to_train(command, tmp_path):
    first = command("4", "-c", "3d_fullres", name="liver")
    assert (first.code, first.err) == (0, "")
    assert "nnUNetv2_train 4 3d_fullres 0 -p nnUNetAllUKANPlans" in first.out
    assert list(plans_of(tmp_path / "Dataset004_Hippocampus/nnUNetAllUKANPlans.json")["configurations"]) == ["3d_fullres"]
    second = command("Dataset004_Hippocampus", "--network", "convert", "--name", "mine", name="liver")
    assert "3d_cascade_fullres is left out, it is a cascade" in second.out
    assert plans_of(tmp_path / "Dataset004_Hippocampus/mine.json")["plans_name"] == "mine"
    before = (tmp_path / "Dataset004_Hippocampus/mine.json").read_bytes()
    assert "mine.json exists: choose another --name, nothing is overwritten" in command("4", "--name", "mine").sentence
    assert (tmp_path / "Dataset004_Hippocampus/mine.json").read_bytes() == before


@pytest.mark.parametrize(
    ("words", "word"),
    [
        (["4", "-c", "3d_cascade_fullres"], "is a cascade, whose second network reads the masks of the first"),
        (["4", "-c", "3d_fulres"], "has no configuration '3d_fulres': did you mean '3d_fullres'?"),
        (["4", "--from", "nnUNetPlan"], "has no plans 'nnUNetPlan': did you mean 'nnUNetPlans'?"),
        (["4", "--network", "konvert"], "unknown network 'konvert': did you mean 'convert'?"),
        (["4", "--name", "a/b"], "name 'a/b' is not usable"),
        (["4", "--name", ""], "name '' is not usable"),
        (["5"], "has no dataset '5'"),
        (["Dataset004_Hippocampos"], "did you mean 'Dataset004_Hippocampus'?"),
        (["4", "--from", "nnUNetPlans", "--name", "nnUNetPlans"], "nothing is overwritten"),
    ],
)
def test_wrong_use_is_told_in_a_sentence(command, words, word):
    assert word in command(*words, name="liver").sentence


def test_a_place_that_is_not_nnunets_is_told(command, shell, monkeypatch, tmp_path):
    monkeypatch.delenv("nnUNet_preprocessed", raising=False)
    assert "nnUNet_preprocessed is not set" in shell("nnunet", "plans", "4").sentence
    monkeypatch.setenv("nnUNet_preprocessed", str(tmp_path / "nowhere"))
    assert "which is no folder" in shell("nnunet", "plans", "4").sentence


def change(configuration, **changed):
    configuration["architecture"]["arch_kwargs"] |= changed


@pytest.mark.parametrize(
    ("spoil", "word"),
    [
        (lambda c: c.pop("architecture"), "names no architecture, as plans of before nnU-Net 2.5 do"),
        (lambda c: c["architecture"].update(arch_kwargs={"embed_dim": 8}), "no U-Net as nnU-Net plans it"),
        (lambda c: change(c, strides=[[2, 2], [2, 2], [2, 2], [2, 2]]), "the first stage must have stride 1"),
        (lambda c: change(c, strides=[[1, 1], [4, 4], [2, 2], [2, 2]]), "strides must be one to nine of 1 or 2"),
        (lambda c: change(c, kernel_sizes=[[5, 5]] * 4), "kernels must be of 1 or 3"),
        (lambda c: change(c, strides=[1, 2, 2, 2]), r"has strides \[1, 2, 2, 2\]: give a list of one for every stage"),
        (lambda c: change(c, strides=None), "has strides None: give a list"),
        (lambda c: change(c, features_per_stage=32), "has features_per_stage 32: give a list"),
        (lambda c: change(c, norm_op="torch.nn.GroupNorm"), "InstanceNorm and BatchNorm are known"),
        (lambda c: c.update(inherits_from="2d"), "configuration '2d' inherits from '2d', which inherits from it"),
        (lambda c: c.update(inherits_from="1d"), "inherits from '1d', which the plans do not have"),
        (lambda c: c.update(previous_stage="x"), "has cascades alone"),
    ],
)
def test_plans_that_cannot_be_used_are_told(planned, spoil, word):
    folder = planned()
    plans = plans_of(folder / "nnUNetPlans.json")
    plans["configurations"] = {"2d": plans["configurations"]["2d"]}
    spoil(plans["configurations"]["2d"])
    (folder / "nnUNetPlans.json").write_text(json.dumps(plans), encoding="utf-8")
    with pytest.raises(ValueError, match=word):
        write_plans(folder)
    assert not (folder / "nnUNetAllUKANPlans.json").exists()


def test_plans_that_are_no_plans_are_told(planned):
    folder = planned()
    (folder / "nnUNetPlans.json").write_text("{}", encoding="utf-8")
    with pytest.raises(ValueError, match="is no plans file of nnU-Net v2"):
        write_plans(folder)
    (folder / "nnUNetPlans.json").unlink()
    with pytest.raises(ValueError, match="run nnUNetv2_plan_experiment first"):
        write_plans(folder)


def test_inherited_plans_keep_the_data_of_what_they_inherit(planned):
    folder = planned()
    plans = plans_of(folder / "nnUNetPlans.json")
    plans["configurations"]["3d_large"] = {"inherits_from": "3d_fullres", "patch_size": [48, 64, 48]}
    (folder / "nnUNetPlans.json").write_text(json.dumps(plans), encoding="utf-8")
    made = plans_of(write_plans(folder, only=["3d_large"]).path)["configurations"]["3d_large"]
    assert (made["data_identifier"], made["patch_size"]) == ("nnUNetPlans_3d_fullres", [48, 64, 48])
    assert prod(made["architecture"]["arch_kwargs"]["strides"][0]) == 1
