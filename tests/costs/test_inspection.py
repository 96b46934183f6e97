import json
from dataclasses import replace

import pytest
import torch
from torch import nn

from allukan.costs import inspect_model, parameter_count, saved_bytes
from allukan.costs.flops import Flops
from allukan.models import build_model
from allukan.nn import KAConv2d, KAConv3d, KAFork2d, KALinear, Spline
from allukan.ops.engines import chunks


def small(sharing="layer", impl="auto"):
    spline = Spline(sharing=sharing, impl=impl)
    layers = KAConv2d(2, 4, 3, padding=1, spline=spline), nn.BatchNorm2d(4), KAConv2d(4, 4, 3, groups=4, stride=2, spline=spline)
    return nn.Sequential(nn.Sequential(*layers), nn.Flatten(2), KALinear(9, 2, spline=replace(spline, sharing="layer")))


@pytest.mark.parametrize("sharing", ["layer", 2, "output", "edge"])
def test_saved_bytes_and_parameters_add_up_to_what_is_measured(sharing):
    model, x = small(sharing), torch.randn(2, 2, 8, 8)
    found = inspect_model(model, x.shape)
    assert sum(layer.saved_bytes for layer in found.layers) == saved_bytes(lambda: model(x), model)
    assert sum(stage.saved_bytes for stage in found.stages()) == found.total().saved_bytes
    assert sum(layer.parameters for layer in found.layers) == parameter_count(model)


@pytest.mark.parametrize(
    ("make", "shape"),
    [(small, (2, 2, 8, 8)), (lambda: build_model("convtwin-tiny", in_channels=2, out_channels=1), (2, 2, 32, 32))],
    ids=["ka", "conv"],
)
def test_a_model_without_memory_gives_the_same(make, shape):
    with torch.device("meta"):
        there = make()
    assert inspect_model(make(), shape) == inspect_model(there, shape)


def test_the_model_stays_as_it_was():
    model = small(impl="reference").eval()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    inspect_model(model, (2, 2, 8, 8))
    assert not model.training
    assert model[2].spline.impl == "reference"
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert not any(module._forward_hooks for module in model.modules())
    assert chunks.CHUNK < 2**30


def test_a_storage_counts_where_it_is_first_saved():
    model = nn.Sequential(nn.Linear(4, 8), nn.Sigmoid(), nn.Linear(8, 2))
    rows = {layer.name: layer.saved_bytes for layer in inspect_model(model, (3, 4)).layers}
    assert rows == {"0": 3 * 4 * 4, "1": 3 * 8 * 4, "2": 0}  # the last one keeps what the sigmoid keeps


def test_shared_and_idle_layers():
    class Shared(nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = nn.ModuleList([nn.Linear(4, 4), nn.Linear(4, 4, bias=False)])
            self.layers[1].weight = self.layers[0].weight
            self.idle = KALinear(4, 4)

        def forward(self, x):
            return self.layers[0](self.layers[1](self.layers[0](x)))

    found = inspect_model(Shared(), (3, 4))
    rows = {layer.name: (layer.stage, layer.parameters, layer.cost.forward.linear, layer.output) for layer in found.layers}
    assert rows == {
        "layers.0": ("layers.0", 20, 2 * 96, (3, 4)),
        "layers.1": ("layers.1", 0, 96, (3, 4)),
        "idle": ("idle", 29, 0, ()),
    }
    assert found.total().output == (3, 4)


def test_rows_say_what_a_layer_is():
    found = inspect_model(build_model("allukan-tiny", in_channels=1, out_channels=1, spline=Spline(sharing=4)), (1, 1, 64, 64))
    rows = {layer.name: layer for layer in found.layers}
    unit = rows["encoder.0.units.1"]
    assert (unit.kind, unit.sharing, unit.activations) == ("KAConv2d 3×3", "4", 4)
    assert (rows["encoder.0.units.1.norm"].kind, rows["encoder.0.units.1.norm"].parameters) == ("BatchNorm2d", 16)
    assert rows["embeddings.0.0"].kind == "KAConv2d 3×3 stride 2"
    assert rows["embeddings.0.1.mixers.0"].kind == "KAConv2d 3×3 depthwise"
    assert rows["embeddings.0.1.linears.0"].output == (1, 16, 80)
    assert rows["in between"].kind == "AllUKAN"
    stages = {stage.name: stage for stage in found.stages()}
    assert list(stages)[:2] == ["encoder.0", "encoder.1"]
    assert stages["embeddings.0"].output == (1, 80, 4, 4)
    assert stages["embeddings.0"].kind == "7 of 15 KA"
    assert (stages["head"].kind, stages["head"].output) == ("1 of 2 KA", (1, 1, 64, 64))


def test_a_fork_costs_a_unit_and_the_second_map():
    """φ counts once, and each map what the same convolution costs."""
    fork, unit = KAFork2d(4, 6, 5, 3, padding=1, norm="batch"), KAConv2d(4, 6, 3, padding=1, norm="batch")
    side = nn.Conv2d(4, 5, 1, bias=False)
    found, alone, plain = (inspect_model(m, (2, 4, 9, 9)).total() for m in (fork, unit, side))
    x = torch.randn(2, 4, 9, 9)
    assert found.parameters == alone.parameters + plain.parameters
    assert found.cost.forward == alone.cost.forward + plain.cost.forward
    product = 2 * 4 * 5 * 2 * 9 * 9
    assert found.cost.backward == alone.cost.backward + Flops(2 * product)
    assert found.saved_bytes == alone.saved_bytes == saved_bytes(lambda: fork(x), fork)
    fork.requires_grad_(False)
    assert inspect_model(fork, (2, 4, 9, 9)).total().cost.backward == Flops()


@pytest.mark.parametrize("padding_mode", ["zeros", "reflect"])
@pytest.mark.parametrize("norm", ["batch", "instance", "group", "layer"])
def test_a_unit_saves_what_it_saves_where_nobody_looks(norm, padding_mode):
    """As one operation or, with another padding, as several."""
    unit, x = KAConv2d(4, 6, 3, padding=1, padding_mode=padding_mode, norm=norm), torch.randn(2, 4, 9, 9)
    assert inspect_model(unit, x.shape).total().saved_bytes == saved_bytes(lambda: unit(x), unit)


def test_large_maps_take_no_memory():
    layer = KAConv3d(8, 8, 3, spline=Spline(sharing="edge"))
    assert inspect_model(layer, (2, 8, 1024, 1024, 1024)).total().saved_bytes == 4 * 2 * 8 * 1024**3  # x


def test_everything_becomes_json():
    found = inspect_model(nn.Sequential(KALinear(2, 2)), (1, 2)).as_dict()
    assert json.loads(json.dumps(found))["layers"][0]["cost"]["forward"]["linear"] == 8


def test_a_model_refuses_the_shape_in_its_own_words():
    with pytest.raises(ValueError, match="expects"):
        inspect_model(KALinear(3, 2), (1, 4))
