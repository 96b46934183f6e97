import pytest
import pytorch_lightning as pl
import torch
from torch import nn

from allukan.models import ModelCard, build_model, ka_layers
from allukan.nn import KAConv2d, KALinear, Spline, SplineActivation
from allukan.training import TrainConfig
from allukan.training.module import SegmentationModule
from allukan.training.parameters import parameter_groups, roughness, spline_parameters


def groups(model, options=(), **config):
    with torch.device("meta"):
        network = build_model(model, in_channels=3, out_channels=1, **dict(options))
    c = TrainConfig("d", "o", model=model, **config)
    found = parameter_groups(network, c.lr, c.weight_decay, c.spline_lr, c.spline_decay)
    listed = [id(p) for group in found for p in group["params"]]
    assert sorted(listed) == sorted(id(p) for p in network.parameters())  # each once
    return {(g["lr"], g["weight_decay"]): sum(p.numel() for p in g["params"]) for g in found}, network


def test_ukan_trains_its_kan_layers_with_the_published_rate_by_its_own_protocol():
    found, _ = groups("ukan", protocol="ukan")
    assert sum(count for (lr, _), count in found.items() if lr == 1e-2) == 3_993_600
    assert {lr for lr, _ in found} == {1e-2, 1e-4}
    assert {lr for lr, _ in groups("ukan")[0]} == {3e-3}
    assert {lr for lr, _ in groups("convtwin-tiny", protocol="ukan")[0]} == {1e-4}


def test_splines_of_shared_layers_are_w_and_c():
    found, network = groups("allukan-tiny", spline_lr=0.02, spline_decay=1e-5)
    splines = sum(p.numel() for name, p in network.named_parameters() if name.endswith((".coef", ".base_weight")))
    assert found[0.02, 1e-5] == splines == 14 * len(ka_layers(network))
    weights = sum(p.numel() for name, p in network.named_parameters() if name.endswith(".weight") and p.ndim > 1)
    assert found[3e-3, 1e-4] == weights
    assert set(found) == {(0.02, 1e-5), (3e-3, 1e-4), (3e-3, 0.0)}


@pytest.mark.parametrize(("sharing", "rate", "of_bias"), [("layer", 1, 0), ("output", 1, 0), ("edge", 2, 5)])
def test_every_weight_decays_and_of_edges_it_learns_as_a_spline_does(sharing, rate, of_bias):
    """As docs/train.md says: λ by weight_decay whatever the sharing; w and c, and β of edges, by spline_decay."""
    network = nn.Sequential(KAConv2d(2, 4, 3, spline=Spline(sharing=sharing)), nn.BatchNorm2d(4))
    found = {id(p): (g["lr"], g["weight_decay"]) for g in parameter_groups(network, 1, 3, 2, 5) for p in g["params"]}
    layer, norm = network
    assert [found[id(p)] for p in (layer.weight, layer.base_weight, layer.coef)] == [(rate, 3), (2, 5), (2, 5)]
    assert found[id(layer.bias)] == (rate, of_bias)
    assert found[id(norm.weight)] == found[id(norm.bias)] == (1, 0)


@pytest.mark.parametrize(("name", "left"), [("adam", 1 - 0.1), ("adamw", 1 - 0.1 * 0.5)])
def test_what_a_first_step_does_to_a_weight_without_a_gradient(name, left):
    """Adam divides decay · weight by its own size and moves by lr; AdamW takes lr · decay of the weight away. Not of a bias."""
    layer = nn.Linear(3, 2)
    nn.init.ones_(layer.weight)
    nn.init.ones_(layer.bias)
    module = SegmentationModule(layer, ModelCard("unet", 3, ("a",), "binary", (32, 32), (0.5,), (0.2,)), named(name))
    module.trainer = pl.Trainer(accelerator="cpu", devices=1, max_epochs=1, logger=False, enable_checkpointing=False)
    optimizer = module.configure_optimizers()["optimizer"]
    for parameter in layer.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    torch.testing.assert_close(layer.weight.detach(), torch.full((2, 3), left))
    assert (layer.bias == 1).all()


def named(optimizer):
    return TrainConfig("d", "o", model="unet", lr=0.1, weight_decay=0.5, optimizer=optimizer)


@pytest.mark.parametrize(
    ("model", "some"), [("ukan-sprecher", True), ("convtwin-tiny", False), ("ukan-linear", False), ("unet", False)]
)
def test_who_has_splines(model, some):
    with torch.device("meta"):
        assert bool(spline_parameters(build_model(model, in_channels=3, out_channels=1))) == some


def test_roughness_is_the_sum_of_squared_second_differences():
    layers = nn.Sequential(
        KALinear(2, 3, spline=Spline(sharing="output")), nn.Linear(3, 2), SplineActivation(Spline(basis="rbf"))
    )
    m = torch.arange(8.0)
    with torch.no_grad():
        layers[0].coef.copy_(torch.stack([m, 3 - m, m**2]))  # second differences 0, 0 and 2
        layers[2].coef.copy_(m**2)
    assert float(roughness(layers).detach()) == pytest.approx(6 * 4 / 3 + 6 * 4)


def test_only_bumps_in_a_row_are_rough():
    waves = KAConv2d(1, 1, 3, spline=Spline(basis="fourier"))
    assert roughness(nn.Sequential(waves, SplineActivation())).detach() == 0  # the other starts at zero
