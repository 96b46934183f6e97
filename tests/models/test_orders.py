"""In which order layers stand: units normalise → φ → mix, or U-KAN's, which is also that of every network up to version 0.1."""

import pytest
import torch
from torch import nn

from allukan.models import AllUKAN, ModelCard, build_model, ka_layers, load_model, save_model
from allukan.models.layers import Activation
from allukan.nn import KAFork, KALayer

PLAIN = (nn.Linear, nn.modules.conv._ConvNd)


@pytest.mark.parametrize("order", ["norm-first", "layer-first"])
@pytest.mark.parametrize("kind", ["ka", "edge", "stacked"])
def test_no_plain_layer_is_left(kind, order):
    """Every Linear and Conv of the twin is a KA layer here, in the same place; a fork's second map is mixed from its φ."""
    model, twin = (AllUKAN(3, 1, size="tiny", layer=layer, order=order) for layer in (kind, "conv"))
    sides = [m.side for m in model.modules() if isinstance(m, KAFork)]
    assert [m for m in model.modules() if isinstance(m, PLAIN)] == sides
    assert len(sides) == (7 if (kind, order) == ("ka", "norm-first") else 0)
    mixing = [m for m in model.modules() if isinstance(m, (KALayer, *PLAIN))]
    places = [tuple(m.weight.shape) for m in twin.modules() if isinstance(m, PLAIN)]
    assert sorted(tuple(m.weight.shape) for m in mixing) == sorted(places)
    assert len(places) == 50


NORMS = (nn.BatchNorm2d, nn.LayerNorm)


@pytest.mark.parametrize(("kind", "first"), [("ka", {"fork"}), ("edge", {"units.0", "shortcut"})])
def test_every_layer_but_the_first_normalises_its_input_and_nothing_else_does(kind, first):
    model = AllUKAN(1, 1, size="tiny", layer=kind)
    layers = ka_layers(model)
    assert {name for name, layer in layers.items() if layer.norm is None} == {f"encoder.0.{name}" for name in first}
    assert [m for m in model.modules() if isinstance(m, NORMS)] == [la.norm for la in layers.values() if la.norm is not None]


def test_every_activation_of_the_twin_stands_behind_a_norm_and_before_a_convolution():
    model = AllUKAN(1, 1, size="tiny", layer="conv")
    runs = [m for m in model.modules() if isinstance(m, nn.Sequential) and any(isinstance(child, Activation) for child in m)]
    assert all(isinstance(run[0], NORMS) and isinstance(run[1], Activation) for run in runs)
    assert len(runs) == len([m for m in model.modules() if isinstance(m, NORMS)]) == 42


def test_the_twin_of_the_units_has_their_norms_and_weights_under_other_names():
    ka, twin = (AllUKAN(3, 1, size="tiny", layer=layer) for layer in ("ka", "conv"))
    shapes = [[tuple(p.shape) for n, p in m.named_parameters() if not n.endswith(("coef", "base_weight"))] for m in (ka, twin)]
    assert sorted(shapes[0]) == sorted(shapes[1])


@pytest.mark.parametrize(("preset", "first"), [("paper", {"0.0.0"}), ("default", {"0.fork"})])
def test_only_what_sees_the_image_has_the_identity_as_base(preset, first):
    bases = {name: layer.spline.base for name, layer in ka_layers(AllUKAN(1, 1, size="tiny", preset=preset)).items()}
    assert {name for name, base in bases.items() if base == "identity"} == {f"encoder.{name}" for name in first}
    assert set(bases.values()) == {"identity", "silu"}


@pytest.mark.parametrize("model", ["allukan-tiny", "convtwin-tiny", "edgekan-tiny", "allukan-paper-tiny", "ukan"])
def test_a_model_folder_of_version_0_1_is_the_network_that_it_was(model, tmp_path):
    order = {} if model == "ukan" else {"order": "layer-first"}
    size = {"size": "tiny"} if model == "ukan" else {}
    before = build_model(model, in_channels=1, out_channels=1, **size, **order).eval()
    card = ModelCard(model, 1, ("lesion",), "binary", (32, 32), (0.5,), (0.2,), options=size, version="0.1.0")
    save_model(tmp_path, before, card)
    loaded, found = load_model(tmp_path)
    x = torch.randn(1, 1, 40, 40)
    assert torch.equal(loaded(x), before(x))
    assert found == card


def test_the_names_of_version_0_1_are_those_of_the_old_order():
    """As its files have them; the other networks of that version have them too."""
    names = AllUKAN(1, 1, size="tiny", order="layer-first").state_dict()
    assert {
        "encoder.0.units.0.0.weight": (8, 1, 3, 3),
        "encoder.0.units.1.1.running_var": (8,),
        "encoder.1.shortcut.0.coef": (1, 13),
        "encoder.1.shortcut.1.weight": (16,),
        "embeddings.0.0.0.weight": (80, 64, 3, 3),
        "embeddings.0.0.1.bias": (80,),
        "embeddings.0.1.norm_in.weight": (80,),
        "embeddings.1.1.norm_out.bias": (128,),
        "embeddings.1.1.linears.2.base_weight": (1,),
        "decoder_tokens.1.mixers.0.0.running_mean": (64,),
        "decoder_tokens.1.mixers.0.1.weight": (64, 1, 3, 3),
        "decoder_tokens.1.mixers.0.2.weight": (64,),
        "head.bias": (1,),
    }.items() <= {name: tuple(tensor.shape) for name, tensor in names.items()}.items()
    assert len(names) == 412


def test_an_order_that_is_asked_for_is_that_of_a_model_folder_too():
    card = ModelCard(
        "allukan-tiny", 1, ("lesion",), "binary", (32, 32), (0.5,), (0.2,), options={"order": "norm-first"}, version="0.1.0"
    )
    assert isinstance(card.build().head.norm, nn.BatchNorm2d)
