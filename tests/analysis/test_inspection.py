import json

import pytest
import torch
from torch import nn

from allukan.analysis import inspect_model, parameter_count, saved_bytes
from allukan.models import MODELS, build_model
from allukan.nn import KALinear, Spline
from allukan.ops.shared_spline import eager

TINY = [name for name in MODELS if name.endswith("tiny")]


@pytest.mark.parametrize(
    ("name", "sharing"), [*((name, "layer") for name in TINY), ("allukan-tiny", 4), ("allukan-tiny", "output")]
)
def test_saved_bytes_and_parameters_add_up_to_what_is_measured(name, sharing):
    model = build_model(name, in_channels=1, out_channels=1, spline=Spline(sharing=sharing))
    x = torch.randn(2, 1, 32, 48)
    found = inspect_model(model, x.shape)
    assert sum(layer.saved_bytes for layer in found.layers) == saved_bytes(lambda: model(x), model)
    assert sum(layer.parameters for layer in found.layers) == parameter_count(model)
    assert sum(stage.saved_bytes for stage in found.stages()) == found.total().saved_bytes


def test_a_model_without_memory_gives_the_same():
    here = build_model("allukan-tiny", in_channels=3, out_channels=1)
    with torch.device("meta"):
        there = build_model("allukan-tiny", in_channels=3, out_channels=1)
    assert inspect_model(here, (1, 3, 64, 64)) == inspect_model(there, (1, 3, 64, 64))


def test_the_model_stays_as_it_was():
    model = build_model("allukan-tiny", in_channels=1, out_channels=1, spline=Spline(impl="reference")).eval()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    inspect_model(model, (2, 1, 32, 32))
    assert not model.training
    assert model.head.spline.impl == "reference"
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert not any(module._forward_hooks for module in model.modules())


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
    assert (rows["encoder.0.1.0"].kind, rows["encoder.0.1.0"].sharing, rows["encoder.0.1.0"].activations) == (
        "KAConv2d 3×3",
        "4",
        4,
    )
    assert rows["embeddings.0.0.0"].kind == "KAConv2d 3×3 stride 2"
    assert rows["embeddings.0.1.mixers.0.1"].kind == "KAConv2d 3×3 depthwise"
    assert rows["embeddings.0.1.linears.0"].output == (1, 16, 80)
    assert rows["in between"].kind == "AllUKAN"
    stages = {stage.name: stage for stage in found.stages()}
    assert list(stages)[:2] == ["encoder.0", "encoder.1"]
    assert stages["embeddings.0"].output == (1, 80, 4, 4)
    assert stages["embeddings.0"].kind == "7 of 17 KA"
    assert stages["head"].kind == "KAConv2d 1×1"


def test_large_networks_take_no_memory():
    with torch.device("meta"):
        model = build_model("edgekan-base", in_channels=1, out_channels=1, spatial_dims=3)
    assert inspect_model(model, (1, 1, 512, 512, 512)).total().saved_bytes > 2**38
    assert eager.BLOCK < 2**30  # as it was


def test_everything_becomes_json():
    found = inspect_model(nn.Sequential(KALinear(2, 2)), (1, 2)).as_dict()
    assert json.loads(json.dumps(found))["layers"][0]["cost"]["forward"]["linear"] == 8


def test_a_model_refuses_the_shape_in_its_own_words():
    with pytest.raises(ValueError, match="expects"):
        inspect_model(KALinear(3, 2), (1, 4))
