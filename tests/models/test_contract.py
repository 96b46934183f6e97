"""What every model of the factory can do; a new model is one more name here."""

import importlib.util
import sys

import pytest
import torch
from torch import nn

from allukan import load_model
from allukan.costs import parameter_count
from allukan.errors import UserError
from allukan.models import (
    MODELS,
    UKAN,
    AllUKAN,
    ModelCard,
    build_model,
    ka_layers,
    model_options,
    probabilities,
    save_model,
    to_masks,
)
from allukan.nn import KALayer, Spline, SprecherLinear

SMALL = {"size": "tiny", "channels": (4, 4, 8, 8, 16)}  # whatever option makes a network small
SLOW = pytest.mark.slow  # one spline an edge, computed the ordinary way
NAMES = [name for name in MODELS if not name.endswith(("-small", "-base"))]
PARAMETERS = {  # 3 channels, 1 class, 2D
    "allukan-tiny": 716_131,
    "allukan-base": 2_831_339,
    "allukan-paper-tiny": 725_970,
    "allukan-paper-base": 2_816_282,
    "convtwin-tiny": 715_529,
    "convtwin-base": 2_830_737,
    "edgekan-tiny": 7_102_481,
    "edgekan-base": 28_201_761,
    "stackedkan-tiny": 7_102_481,
    "stackedkan-base": 28_201_761,
    "ukan": 6_356_689,
    "ukan-linear": 2_764_561,
    "ukan-sakan": 2_762_557,
    "ukan-sprecher": 2_374_057,
    "unet": 31_113_217,
    "unetpp": 9_119_233,
    "attention-unet": 31_740_337,
    "plainconv": 33_469_409,
    "resenc": 105_914_401,
}
# another value of every option; a spline in its fields
TOPOLOGY = [{"widths": [8, 8, 16, 16, 24]}, {"depth": 3}, {"token_depth": 1}, {"drop_path": 0.5}]
TOPOLOGY += [{"strides": [2, 2, [1, 2]]}, {"strides": [2, 2, 2, 2, 1]}, {"kernels": [[1, 3], 3, 3, 3, 3, 3]}]
CHANGES = {
    "topology": [*TOPOLOGY, {"deep_supervision": True}],
    "size": ["small"],
    "norm": ["instance", "group"],
    "channels": [(4, 8, 8, 8, 32)],
    "order": ["norm-first", "layer-first"],
    "activation": [
        "prelu",
        "prelu-channel",
        "swish-channel",
        "rational-channel",
    ],  # the others start as SiLU does
}
SPLINES = {"grid_size": 7, "spline_order": 2, "grid_range": (-2.0, 2.5), "sharing": 4, "base": "tanh", "basis": "rbf"}
FIXED = {  # fields of the spline that the name decides
    "convtwin-tiny": set(SPLINES) - {"base"},
    "edgekan-tiny": {"sharing"},
    "stackedkan-tiny": {"sharing", "basis"},
    "ukan": {"sharing"},
    "ukan-sprecher": {"sharing", "basis"},
}


def needs_its_package(name):
    if name in ("plainconv", "resenc") and importlib.util.find_spec("dynamic_network_architectures") is None:
        pytest.skip("the package dynamic-network-architectures is not installed")


def small(name, in_channels=1, out_channels=1, **options):
    """The model, as small as its options make it."""
    options = {option: value for option, value in SMALL.items() if option in model_options(name)} | options
    return build_model(name, in_channels=in_channels, out_channels=out_channels, **options)


@pytest.fixture(params=[pytest.param(name, marks=SLOW) if name.startswith("stackedkan") else name for name in NAMES])
def name(request):
    needs_its_package(request.param)
    return request.param


def test_logits_have_the_size_of_the_image(name):
    model = small(name, 3, 2).eval()
    for size in [(64, 64), (33, 50), (32, 97)]:
        assert model(torch.randn(1, 3, *size)).shape == (1, 2, *size)


def test_three_dimensions(name):
    device = "meta" if name.startswith("stackedkan") else "cpu"  # where it would take 18 s and 6 GB
    model = small(name, 1, 3, spatial_dims=3).to(device).eval()
    assert model(torch.randn(1, 1, 32, 35, 33, device=device)).shape == (1, 3, 32, 35, 33)


def assert_every_parameter_learns(model, channels=1):
    model(torch.randn(2, channels, 64, 64)).square().mean().backward()
    assert not [n for n, p in model.named_parameters() if p.grad is None or not p.grad.isfinite().all()]


def test_every_parameter_gets_a_finite_gradient(name):
    assert_every_parameter_learns(small(name))


@pytest.mark.parametrize("norm", ["batch", "instance", "group"])
@pytest.mark.parametrize("with_norm", [name for name in NAMES if "norm" in model_options(name)])
def test_so_it_does_with_every_norm(with_norm, norm):
    assert_every_parameter_learns(small(with_norm, norm=norm))


@pytest.mark.slow
@pytest.mark.parametrize("full", MODELS)
def test_so_it_does_at_full_size(full):
    needs_its_package(full)
    model = build_model(full, in_channels=3, out_channels=2)
    assert_every_parameter_learns(model, 3)
    assert model.eval()(torch.randn(1, 3, 40, 33)).shape == (1, 2, 40, 33)


def test_a_seed_gives_the_same_model(name):
    outs = []
    for _ in range(2):
        torch.manual_seed(5)
        outs.append(small(name).eval()(torch.ones(1, 1, 32, 32)))
    assert torch.equal(*outs)


def test_saved_and_loaded_it_is_the_same_to_the_bit(name, tmp_path):
    wanted = SMALL | {"norm": "group", "spline": {"base": "tanh"}}
    options = {option: value for option, value in wanted.items() if option in model_options(name)}
    options = {k: list(v) if isinstance(v, tuple) else v for k, v in options.items()}  # as JSON and YAML have them
    card = ModelCard(name, 1, ("lesion",), "binary", (32, 32), (0.5,), (0.2,), options=options)
    model = card.build()
    model(torch.randn(2, 1, 64, 64))  # so that statistics of norms differ from their start
    model.eval()
    save_model(tmp_path, model, card)
    loaded, loaded_card = load_model(tmp_path)
    assert loaded_card == card
    x = torch.randn(1, 1, 40, 40)
    assert torch.equal(loaded(x), model(x))
    assert {p.name for p in tmp_path.iterdir()} == {"config.json", "model.safetensors"}


@pytest.mark.parametrize(
    ("model", "options", "word"),
    [
        ("unet", {"spline": {"sharing": 4}}, "'unet' has no option 'spline'"),
        ("ukan", {"spline": {"sharing": 4}}, "do not fit 'ukan': sharing=4"),
        ("ukan-sakan", {"spline": {"grids": 4}}, "do not fit 'ukan-sakan': .*'grids'"),
        ("attention-unet", {"channels": 4}, "do not fit 'attention-unet'"),
    ],
)
def test_options_that_do_not_fit_are_an_error_of_the_user(model, options, word):
    with pytest.raises(UserError, match=word):
        ModelCard(model, 1, ("lesion",), "binary", (32, 32), (0.5,), (0.2,), options=options).build()


def quickly_enough(name):
    if name.startswith("stackedkan"):
        pytest.skip("it is the function of edgekan, and takes 15 s where that takes 2")


@pytest.mark.slow
@pytest.mark.kernels
def test_one_batch_can_be_learnt(name):
    quickly_enough(name)
    torch.manual_seed(0)
    model = small(name)
    line = torch.linspace(-1, 1, 32)
    masks = ((line.view(-1, 1) ** 2 + line**2).expand(4, 1, 32, 32) < 0.2 + 0.5 * torch.rand(4, 1, 1, 1)).float()
    images = masks + 0.3 * torch.randn(4, 1, 32, 32)
    optimizer, losses = torch.optim.Adam(model.parameters(), 1e-2), []
    for _ in range(15):
        loss = nn.functional.binary_cross_entropy_with_logits(model(images), masks)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.7 * losses[0]


def test_bf16_autocast_and_channels_last(name):
    model = small(name, 3).to(memory_format=torch.channels_last)
    x = torch.randn(2, 3, 64, 64).to(memory_format=torch.channels_last)
    with torch.autocast("cpu", torch.bfloat16):
        out = model(x)
    out.float().mean().backward()
    assert out.isfinite().all()
    assert all(p.grad.isfinite().all() for p in model.parameters())


def test_wrong_channels_are_named(name):
    model = small(name, 3)
    for wrong in [(1, 1, 32, 32), (3, 32, 32), (1, 3, 32, 32, 32)]:
        with pytest.raises(ValueError, match=r"expects \(B, 3, \*S\) with 2"):
            model(torch.zeros(wrong))


@pytest.mark.slow
@pytest.mark.kernels
def test_exported_it_computes_the_same(name):
    quickly_enough(name)
    model = small(name).eval()
    x = torch.randn(1, 1, 33, 32)
    exported = torch.export.export(model, (x,)).module()
    torch.testing.assert_close(exported(x), model(x), rtol=1e-4, atol=1e-4)  # logits of about 1, other implementations of φ


@pytest.mark.parametrize(("model", "count"), PARAMETERS.items())
def test_it_has_exactly_so_many_parameters(model, count):
    needs_its_package(model)
    with torch.device("meta"):
        assert parameter_count(build_model(model, in_channels=3, out_channels=1)) == count


def test_every_model_is_counted():
    assert {name for name in MODELS if not name.endswith("-small")} <= set(PARAMETERS)


def traces(name, **options):
    """What must differ: the shapes of the parameters, or the logits."""
    torch.manual_seed(0)
    model = small(name, **options)
    shapes = [tuple(p.shape) for p in model.parameters()]
    torch.manual_seed(1)
    return shapes, model(torch.randn(2, 1, 32, 48)).detach()


def differ(one, other):
    return one[0] != other[0] or not torch.allclose(one[1], other[1], rtol=1e-3)


def test_every_option_changes_the_output_or_the_parameters(name):
    plain = traces(name)
    for option in model_options(name):
        for value in [] if option == "spline" else CHANGES[option]:
            usual = option == "order" and (value == "layer-first") == name.startswith("allukan-paper")
            assert differ(traces(name, **{option: value}), plain) != usual, (option, value)
    if "spline" in model_options(name):
        for field in set(SPLINES) - FIXED.get(name, set()):
            assert differ(traces(name, spline={field: SPLINES[field]}), plain), field


@pytest.mark.parametrize("splined", [name for name in NAMES if "spline" in model_options(name) and name != "ukan-sprecher"])
def test_a_free_gradient_is_another_gradient(splined):
    gradients = []
    for way in ("exact", "free"):
        torch.manual_seed(0)
        model = small(splined, spline={"input_grad": way})
        for module in model.modules():
            if isinstance(module, KALayer):
                nn.init.normal_(module.coef)
        model(torch.ones(2, 1, 64, 64).cumsum(3) / 64).square().sum().backward()
        gradients.append(next(model.parameters()).grad)
    assert torch.allclose(*gradients) == splined.startswith("convtwin")  # which has no spline


@torch.no_grad()
def test_edge_and_stacked_are_the_same_network():
    edge, stacked = (AllUKAN(1, 1, size="tiny", layer=kind, norm="group") for kind in ("edge", "stacked"))
    stacked.load_state_dict(edge.state_dict())
    x = torch.randn(1, 1, 33, 40)
    torch.testing.assert_close(edge(x), stacked(x), rtol=1e-3, atol=1e-4)


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


def test_the_layers_on_the_tokens_of_ukan():
    kinds = {"kan": KALayer, "linear": nn.Linear, "sakan": KALayer, "sprecher": SprecherLinear}
    for layer, kind in kinds.items():
        with torch.device("meta"):
            model = UKAN(3, 1, layer=layer)
        layers = [m for m in model.modules() if isinstance(m, kind)]
        assert len(layers) == 12
        if layer == "kan":
            assert sum(parameter_count(m) for m in layers) == 3_993_600
            assert {m.spline.grid_range for m in layers} == {(-1.0, 1.0)}


def test_shared_activations_take_55_percent_off_ukan():
    assert PARAMETERS["ukan-sakan"] <= 0.45 * PARAMETERS["ukan"]


@pytest.mark.parametrize("lacking", ["plainconv", "resenc"])
def test_a_missing_package_is_named(lacking, monkeypatch):
    monkeypatch.setitem(sys.modules, "dynamic_network_architectures.architectures", None)
    with pytest.raises(UserError, match=r"pip install 'allukan\[nnunet-nets\]'"):
        build_model(lacking, in_channels=1, out_channels=1)


@pytest.mark.parametrize(
    ("make", "error", "word"),
    [
        (lambda: build_model("allukan-tyny", in_channels=1, out_channels=1), UserError, "did you mean 'allukan-tiny'"),
        (lambda: AllUKAN(1, 1, size="huge"), ValueError, "size 'huge'"),
        (lambda: AllUKAN(1, 1, spatial_dims=4), ValueError, "spatial_dims"),
        (lambda: AllUKAN(1, 1, layer="mlp"), ValueError, "layer 'mlp'"),
        (lambda: AllUKAN(1, 1, norm="layer"), ValueError, "norm 'layer'"),
        (lambda: AllUKAN(1, 1, order="norm"), ValueError, "order 'norm'; choose one of norm-first, layer-first"),
        (
            lambda: build_model("unet", in_channels=1, out_channels=1, spline={}),
            UserError,
            "'unet' has no option 'spline': choose one of ch",
        ),
        (
            lambda: build_model("ukan-linear", in_channels=1, out_channels=1, spline={}),
            UserError,
            "no option 'spline': choose one of size",
        ),
        (lambda: build_model("allukan-tiny", in_channels=1, out_channels=1, size="base"), UserError, "no option 'size'"),
        (lambda: UKAN(1, 1, layer="mlp"), ValueError, "layer 'mlp'"),
        (lambda: UKAN(1, 1, layer="linear", spline=Spline()), ValueError, "has no splines"),
        (lambda: UKAN(1, 1, spline=Spline()), ValueError, "sharing='layer' is not layer='kan'"),
        (lambda: UKAN(1, 1, layer="sakan", spline={"sharing": "edge"}), ValueError, "sharing='edge' is not layer='sakan'"),
        (lambda: UKAN(1, 1, layer="sprecher", spline={"sharing": 4}), ValueError, "sharing='layer'"),
        (lambda: UKAN(1, 1, size="huge"), ValueError, "size 'huge'"),
        (lambda: build_model("unet", in_channels=1, out_channels=1, channels=(4, 8)), ValueError, "channels must be 5 widths"),
        (lambda: build_model("unetpp", in_channels=1, out_channels=1, norm="layer"), ValueError, "norm 'layer'"),
        (lambda: build_model("attention-unet", in_channels=1, out_channels=1, channels=[4]), ValueError, "two or more widths"),
        (lambda: build_model("plainconv", in_channels=1, out_channels=1, spatial_dims=4), ValueError, "spatial_dims"),
    ],
)
def test_wrong_options(make, error, word):
    with pytest.raises(error, match=word):
        make()


def test_decisions():
    logits = torch.tensor([[[2.0, -1.0]], [[0.5, 3.0]]]).unsqueeze(0)  # (1, 2, 1, 2)
    assert to_masks(probabilities(logits, "multilabel"), "multilabel")[0, :, 0].tolist() == [[True, False], [True, True]]
    assert to_masks(probabilities(logits, "multiclass"), "multiclass")[0, :, 0].tolist() == [[False, True]]
    assert probabilities(logits.bfloat16(), "binary").dtype == torch.float32
