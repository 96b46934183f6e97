"""A fused model computes what the trained one does, with fewer operations, and leaves this package behind when exported."""

import pytest
import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from allukan.inference import Predictor, fuse
from allukan.models import MODELS, ModelCard, build_model, save_model
from allukan.nn import KAConv1d, KAConv2d, KALinear, Spline

NAMES = ["allukan-tiny", "convtwin-tiny", "edgekan-tiny", "stackedkan-tiny", "ukan-sakan", "ukan-sprecher", "unet"]
SMALL = {"unet": {"channels": (4, 4, 8, 8, 16)}}
# norms that have no layer before them: behind skips, pooling and resizing; where the shortcut has a norm of its own, six more
LEFT = {"allukan-tiny": 10, "convtwin-tiny": 10, "edgekan-tiny": 16, "stackedkan-tiny": 16}
LEFT |= {"ukan-sprecher": 12}  # a norm behind a Sprecher layer has nowhere to go


def trained(name, **options):
    """With statistics and affine parameters as a training leaves them: none is 0 or 1."""
    model = build_model(name, in_channels=3, out_channels=2, **SMALL.get(name, {}), **options)
    return stirred(model)


def stirred(model):
    for norm in model.modules():
        if isinstance(norm, _BatchNorm):
            if norm.track_running_stats:
                norm.running_mean.normal_()
                norm.running_var.uniform_(0.5, 2.0)
            if norm.affine:
                nn.init.uniform_(norm.weight, 0.5, 2.0)
                nn.init.normal_(norm.bias)
    return model.eval()


def batch_norms(model):
    return sum(isinstance(module, _BatchNorm) for module in model.modules())


def error(a, b):
    return float((a - b).abs().max() / b.abs().max())


@pytest.mark.parametrize("name", NAMES)
@torch.inference_mode()
def test_the_function_stays_and_the_norms_go(name):
    model = trained(name).double()
    fused, x = fuse(model), torch.randn(1, 3, 33, 34, dtype=torch.float64)
    assert error(fused(x), model(x)) < 1e-10
    assert error(fused.float()(x.float()), model(x)) < 1e-5
    assert batch_norms(model) > 0
    assert batch_norms(fused) == LEFT.get(name, 0)


@pytest.mark.parametrize(
    "options",
    [
        {"spline": {"sharing": "output"}},
        {"spline": {"sharing": 4}},
        {"spline": {"sharing": 4}, "order": "layer-first"},
        {"spatial_dims": 3},
    ],
    ids=str,
)
@torch.inference_mode()
def test_every_sharing_and_three_dimensions(options):
    size = (20,) * options.get("spatial_dims", 2)
    shape = {"in_channels": 3, "out_channels": 2, **options}
    model = stirred(build_model("allukan-tiny", **shape)).double()
    fused, x = fuse(model), torch.randn(1, 3, *size, dtype=torch.float64)
    assert batch_norms(fused) == (0 if "order" in options else 16 if "spline" in options else 10)
    assert error(fused(x), model(x)) < 1e-10


@pytest.mark.parametrize("norm", ["instance", "group"])
@torch.inference_mode()
def test_norms_that_depend_on_the_input_stay(norm):
    model = trained("allukan-tiny", norm=norm)
    fused, x = fuse(model), torch.randn(1, 3, 64, 64)
    assert [type(m) for m in fused.modules()] == [type(m) for m in model.modules()]
    assert torch.equal(fused(x), model(x))


def test_the_original_is_left_alone():
    model = build_model("allukan-tiny", in_channels=3, out_channels=1).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    fused = fuse(model)
    assert model.training
    assert not fused.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(p.requires_grad for p in model.parameters())
    assert not any(p.requires_grad for p in fused.parameters())


def shared_norm():
    norm = nn.BatchNorm2d(3)
    return nn.Sequential(KAConv2d(3, 3, 1), norm, KAConv2d(3, 3, 1), norm)


def hooked():
    model = nn.Sequential(KAConv2d(3, 3, 1), nn.BatchNorm2d(3))
    model[0].register_forward_hook(lambda module, args, output: output.tanh())
    return model


def hooked_unit():
    model = nn.Sequential(KAConv2d(3, 3, 1), KAConv2d(3, 3, 1, norm="batch"))
    model[1].register_forward_pre_hook(lambda module, args: (args[0].tanh(),))
    return model


def weight_normed():
    return nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Conv2d(3, 3, 1)), nn.BatchNorm2d(3))


class Skipping(nn.Sequential):
    """Also uses what goes into the norm."""

    def forward(self, x):
        y = self[0](x)
        return y + self[1](y)


@pytest.mark.parametrize(
    "make",
    [
        shared_norm,
        hooked,
        weight_normed,
        lambda: Skipping(KAConv2d(3, 3, 1), nn.BatchNorm2d(3)),
        lambda: nn.Sequential(KAConv2d(3, 3, 1), nn.BatchNorm2d(3, track_running_stats=False)),
        lambda: nn.Sequential(nn.Flatten(2), KALinear(16, 16), nn.BatchNorm1d(3)),  # over the channels, not the features
        lambda: nn.Sequential(nn.Flatten(2), KAConv1d(3, 3, 1), KALinear(16, 4, norm="batch")),  # over features, not channels
        lambda: nn.Sequential(KAConv2d(3, 3, 1), nn.MaxPool2d(2), KAConv2d(3, 3, 1, norm="batch")),
        hooked_unit,
    ],
)
@torch.inference_mode()
def test_what_cannot_be_folded_exactly_is_not(make):
    model, x = stirred(make()), torch.randn(2, 3, 4, 4)
    fused = fuse(model)
    assert batch_norms(fused) == batch_norms(model)
    assert error(fused(x), model(x)) < 1e-6


@pytest.mark.parametrize("sharing", ["layer", 2, "edge"])
@torch.inference_mode()
def test_the_norm_of_a_unit_folds_into_the_unit_before_it(sharing):
    spline = Spline(sharing=sharing)
    units = (KAConv2d(3, 4, 3, spline=spline, norm="batch"), KAConv2d(4, 4, 3, padding=1, spline=spline, norm="batch"))
    model, x = stirred(nn.Sequential(*units).double()), torch.randn(2, 3, 7, 6, dtype=torch.float64)
    fused = fuse(model)
    assert [unit.norm is None for unit in fused] == [False, True]
    assert error(fused(x), model(x)) < 1e-12


class Pyramid(nn.Module):
    """Takes the output of every stage, as encoders do, which is the input of the next one's norm."""

    def __init__(self, kind):
        super().__init__()
        self.stages = kind(*[nn.Sequential(nn.BatchNorm2d(2), nn.ReLU(), nn.Conv2d(2, 2, 1)) for _ in range(3)])

    def forward(self, x):
        features = [x := stage(x) for stage in self.stages]
        return sum(features)


class Stages(nn.Sequential):
    pass


@pytest.mark.parametrize("kind", [nn.Sequential, Stages])
@torch.inference_mode()
def test_a_sequence_that_somebody_elses_code_takes_apart_is_left_alone(kind):
    model = stirred(Pyramid(kind)).double().eval()
    fused, x = (
        fuse(nn.Sequential(model, nn.Conv2d(2, 2, 1).double(), stirred(nn.BatchNorm2d(2)).double())),
        torch.randn(2, 2, 5, 5),
    )
    assert error(fused[0](x.double()), model(x.double())) < 1e-12
    assert batch_norms(fused) == 3  # the last one is folded


@torch.inference_mode()
def test_norms_without_affine_and_nested_sequences_fold():
    model = stirred(nn.Sequential(nn.Sequential(KAConv1d(2, 4, 3)), nn.Sequential(nn.BatchNorm1d(4, affine=False), nn.ReLU())))
    fused, x = fuse(model), torch.randn(2, 2, 9)
    assert batch_norms(fused) == 0
    torch.testing.assert_close(fused(x), model(x))


def test_the_predictor_predicts_as_the_model_it_was_given(tmp_path):
    card = ModelCard("allukan-tiny", 3, ("a", "b"), "multilabel", (32, 32), (0.5,) * 3, (0.2,) * 3)
    save_model(tmp_path, trained("allukan-tiny"), card)
    predictor = Predictor(tmp_path, "cpu")
    images = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8)
    with torch.inference_mode():
        expected = predictor.model((images / 255 - 0.5) / 0.2).sigmoid()
    torch.testing.assert_close(predictor.probabilities(images), expected, rtol=1e-3, atol=1e-3)
    assert batch_norms(predictor.model) == 30  # as it was trained, for the report


def operators(program):
    return {str(node.target) for node in program.graph.nodes if node.op == "call_function"}


@pytest.mark.parametrize(
    ("sharing", "strict"), [("layer", False), ("layer", True), (2, False), ("output", False), ("edge", False)]
)
def test_an_exported_layer_holds_operators_of_torch_only(sharing, strict):
    layer = fuse(nn.Sequential(KAConv2d(2, 4, 3, padding=1, spline=Spline(sharing=sharing)), nn.BatchNorm2d(4)))
    x = torch.randn(2, 2, 5, 4)
    batch = torch.export.Dim("batch", min=1, max=64)
    program = torch.export.export(layer, (x,), dynamic_shapes=({0: batch},), strict=strict)
    assert all(name.startswith("aten.") for name in operators(program))
    for size in (1, 5):
        x = torch.randn(size, 2, 5, 4)
        torch.testing.assert_close(program.module()(x), layer(x))


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in MODELS if name.endswith("-tiny") or name.startswith("ukan")])
def test_an_exported_model_holds_operators_of_torch_only(name):
    fused, x = fuse(trained(name)), torch.randn(2, 3, 50, 37)
    program = torch.export.export(fused, (x,))
    assert all(name.startswith("aten.") or name == "<built-in function getitem>" for name in operators(program))
    with torch.inference_mode():
        assert error(program.module()(x), fused(x)) < 1e-5


class Standardised(nn.Conv2d):
    def forward(self, x):
        weight = self.weight - self.weight.mean((1, 2, 3), keepdim=True)
        return self._conv_forward(x, weight / weight.std((1, 2, 3), keepdim=True), self.bias)


def test_convolutions_that_change_their_weight_are_left_alone():
    """Weight standardisation: the scale of the norm would be divided out."""
    torch.manual_seed(0)
    model = nn.Sequential(Standardised(3, 8, 3), nn.BatchNorm2d(8))
    x = torch.randn(2, 3, 9, 9)
    model(x)
    torch.testing.assert_close(fuse(model)(x), model.eval()(x))
