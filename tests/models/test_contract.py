"""What every model of the factory can do; a new model is one more name here."""

import pytest
import torch
from torch import nn

from allukan import load_model
from allukan.analysis import parameter_count
from allukan.errors import UserError
from allukan.models import MODELS, AllUKAN, ModelCard, build_model, decide, ka_layers, probabilities, save_model
from allukan.nn import KALayer, Spline

TINY = [name for name in MODELS if name.endswith("tiny")]


@pytest.fixture(params=TINY)
def name(request):
    return request.param


def test_logits_have_the_size_of_the_image(name):
    model = build_model(name, in_channels=3, out_channels=2).eval()
    for size in [(64, 64), (33, 50), (32, 97)]:
        assert model(torch.randn(1, 3, *size)).shape == (1, 2, *size)


def test_three_dimensions(name):
    model = build_model(name, in_channels=1, out_channels=3, spatial_dims=3).eval()
    assert model(torch.randn(1, 1, 32, 35, 33)).shape == (1, 3, 32, 35, 33)


@pytest.mark.parametrize("norm", ["batch", "instance", "group"])
def test_every_parameter_gets_a_finite_gradient(name, norm):
    model = build_model(name, in_channels=1, out_channels=1, norm=norm)
    model(torch.randn(2, 1, 64, 64)).square().mean().backward()
    silent = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.isfinite().all()]
    assert not silent


def test_a_seed_gives_the_same_model(name):
    outs = []
    for _ in range(2):
        torch.manual_seed(5)
        outs.append(build_model(name, in_channels=1, out_channels=1).eval()(torch.ones(1, 1, 32, 32)))
    assert torch.equal(*outs)


def test_saved_and_loaded_it_is_the_same_to_the_bit(name, tmp_path):
    card = ModelCard(
        name, 1, ("lesion",), "binary", (32, 32), (0.5,), (0.2,), options={"norm": "group", "spline": {"base": "tanh"}}
    )
    model = card.build().eval()
    save_model(tmp_path, model, card)
    loaded, loaded_card = load_model(tmp_path)
    assert loaded_card == card
    x = torch.randn(1, 1, 40, 40)
    assert torch.equal(loaded(x), model(x))
    assert {p.name for p in tmp_path.iterdir()} == {"config.json", "model.safetensors"}


def test_bf16_autocast_and_channels_last(name):
    model = build_model(name, in_channels=3, out_channels=1).to(memory_format=torch.channels_last)
    x = torch.randn(2, 3, 32, 32).to(memory_format=torch.channels_last)
    with torch.autocast("cpu", torch.bfloat16):
        out = model(x)
    out.float().mean().backward()
    assert out.isfinite().all()


def test_wrong_channels_are_named(name):
    model = build_model(name, in_channels=3, out_channels=1)
    with pytest.raises(ValueError, match=r"expects \(B, 3, \*S\)"):
        model(torch.zeros(1, 1, 32, 32))


def test_exported_it_computes_the_same():
    model = build_model("allukan-tiny", in_channels=1, out_channels=1).eval()
    x = torch.randn(1, 1, 32, 32)
    exported = torch.export.export(model, (x,)).module()
    torch.testing.assert_close(exported(x), model(x))


@pytest.mark.parametrize("kind", ["ka", "edge"])
def test_no_plain_layer_is_left(kind):
    """Every Linear and Conv of the twin is a KA layer here, in the same place."""
    plain = (nn.Linear, nn.modules.conv._ConvNd)
    model, twin = AllUKAN(3, 1, size="tiny", layer=kind), AllUKAN(3, 1, size="tiny", layer="conv")
    assert not [n for n, m in model.named_modules() if isinstance(m, plain)]
    places = [tuple(m.weight.shape) for m in twin.modules() if isinstance(m, plain)]
    assert [tuple(layer.weight.shape) for layer in ka_layers(model).values()] == places
    assert len(places) == len([m for m in model.modules() if isinstance(m, KALayer)]) > 40


def test_only_the_first_layer_has_the_identity_as_base():
    bases = [layer.spline.base for layer in ka_layers(AllUKAN(1, 1, size="tiny")).values()]
    assert bases[0] == "identity"
    assert set(bases[1:]) == {"silu"}


def test_base_has_nine_times_fewer_parameters_than_directly_stacked_kan():
    with torch.device("meta"):
        counts = {kind: parameter_count(AllUKAN(3, 1, size="base", layer=kind)) for kind in ("ka", "edge", "conv")}
    assert counts["edge"] >= 9 * counts["ka"]
    assert counts["ka"] < 1.01 * counts["conv"]


def test_a_number_of_activations_shrinks_to_what_divides_the_outputs():
    model = AllUKAN(1, 3, size="tiny", spline=Spline(sharing=4))
    assert {len(layer.coef) for layer in ka_layers(model).values()} == {3, 4}


def test_depth_trains_at_any_sharing():
    for sharing in ("layer", 4, "output"):
        model = AllUKAN(1, 1, size="tiny", spline=Spline(sharing=sharing))
        assert model(torch.randn(2, 1, 32, 32)).std() < 10


@pytest.mark.parametrize(
    ("make", "error", "word"),
    [
        (lambda: build_model("allukan-tyny", in_channels=1, out_channels=1), UserError, "did you mean 'allukan-tiny'"),
        (lambda: AllUKAN(1, 1, size="huge"), ValueError, "size 'huge'"),
        (lambda: AllUKAN(1, 1, spatial_dims=4), ValueError, "spatial_dims"),
        (lambda: AllUKAN(1, 1, layer="mlp"), ValueError, "layer 'mlp'"),
        (lambda: AllUKAN(1, 1, norm="layer"), ValueError, "norm 'layer'"),
    ],
)
def test_wrong_options(make, error, word):
    with pytest.raises(error, match=word):
        make()


def test_decisions():
    logits = torch.tensor([[[2.0, -1.0]], [[0.5, 3.0]]]).unsqueeze(0)  # (1, 2, 1, 2)
    assert decide(probabilities(logits, "multilabel"), "multilabel")[0, :, 0].tolist() == [[True, False], [True, True]]
    assert decide(probabilities(logits, "multiclass"), "multiclass")[0, :, 0].tolist() == [[False, True]]
    assert probabilities(logits.bfloat16(), "binary").dtype == torch.float32
