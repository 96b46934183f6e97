"""FLOPs against torch's counter (linear part) and against counts made by hand (splines)."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from allukan.costs import inspect_model, parameter_count, saved_bytes, spline_evaluations
from allukan.costs.flops import NOTHING, Cost, Flops
from allukan.models import MODELS, build_model, model_options
from allukan.nn import KAConv2d, KAConv3d, KALayer, KALinear, Spline, SplineActivation, SprecherLinear
from allukan.nn.stacked import StackedKANConv2d

TABLE = 2 * 4 * 4 * 13  # order 3, 5 intervals: 13 rows of 4 numbers, each from 4 coefficients
FORWARD = 4 + 4 + 2 * 3 + 2  # place, SiLU, Horner, w b + s
BACKWARD = 4 + 8 + 7 + 2 + 3 + 5  # place, SiLU and slope, ∂c, ∂w, ∂x through the base and through the spline
AGAIN = FORWARD + BACKWARD  # φ(x) is not saved


def grouped(grad_out, x, weight, bias, stride, padding, dilation, transposed, out_padding, groups, mask, out_shape=None, **_):
    """torch's formula for ``convolution_backward`` multiplies the weight gradient by the groups once too often."""
    return 2 * math.prod(x if transposed else grad_out) * math.prod(weight[1:]) * (mask[0] + mask[1])


def torch_counts(model, x):
    mapping = {torch.ops.aten.convolution_backward: grouped}
    with FlopCounterMode(display=False) as forward:
        out = model(x)
    with FlopCounterMode(display=False, custom_mapping=mapping) as backward:
        out.sum().backward()
    return linear_flops(forward), linear_flops(backward)


def linear_flops(counter):
    """Without the splines, for which ``allukan.costs`` brings formulas."""
    return sum(flops for operator, flops in counter.get_flop_counts()["Global"].items() if "allukan" not in str(operator))


def counts(model, shape):
    cost = inspect_model(model, shape).total().cost
    return cost.forward, cost.backward


SMALL = {"size": "tiny", "channels": (4, 4, 8, 8, 16), "norm": "group"}


SLOW = pytest.param("stackedkan-tiny", marks=pytest.mark.slow)


@pytest.mark.parametrize(
    "name", [SLOW if name == "stackedkan-tiny" else name for name in MODELS if not name.endswith(("small", "base"))]
)
@pytest.mark.parametrize("shape", [(2, 3, 32, 48), (2, 3, 16, 17, 16)], ids=["2d", "3d"])
def test_every_model_agrees_with_what_torch_measures(name, shape):
    if name in ("plainconv", "resenc"):
        pytest.importorskip("dynamic_network_architectures")
    options = {option: value for option, value in SMALL.items() if option in model_options(name)}
    model = build_model(name, in_channels=3, out_channels=2, spatial_dims=len(shape) - 2, **options)
    x = torch.randn(shape)
    found = inspect_model(model, shape)
    forward, backward = found.total().cost.forward, found.total().cost.backward
    if name != "ukan-sprecher":  # for whose products with a vector torch has no formula
        assert (forward.linear, backward.linear) == torch_counts(model, x)
    apart = 0.01 if name.startswith("ukan") and x.ndim == 5 else 0  # the CPU hands on channels-last maps there: copies less
    assert sum(layer.saved_bytes for layer in found.layers) == pytest.approx(saved_bytes(lambda: model(x), model), apart, 0)
    assert sum(layer.parameters for layer in found.layers) == parameter_count(model)
    assert forward.other > 0
    assert backward.other > 0
    assert (forward.spline > 0) == any(isinstance(module, KALayer | SprecherLinear) for module in model.modules())


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (nn.Conv2d(4, 6, 3, stride=2), (2, 4, 9, 11)),
        (nn.ConvTranspose3d(4, 6, 2, stride=2), (2, 4, 3, 4, 5)),
        (nn.Conv1d(4, 6, 3, padding=1), (2, 4, 9)),
        (nn.Linear(5, 7), (3, 2, 5)),
        (nn.Bilinear(4, 4, 3), None),
    ],
    ids=lambda p: type(p).__name__,
)
def test_layers_of_torch_agree_with_torch(layer, shape):
    if shape is None:  # a module with two inputs, inside one with one
        layer, shape = Twice(layer), (2, 4)
    first = nn.Sequential(nn.Identity(), layer)
    forward, backward = counts(first, shape)
    x = torch.randn(shape)
    with FlopCounterMode(display=False) as counter:
        out = first(x)
    assert forward.linear == counter.get_total_flops()
    with FlopCounterMode(display=False) as counter:
        out.sum().backward()
    assert backward.linear == counter.get_total_flops()


class Twice(nn.Module):
    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def forward(self, x):
        return self.layer(x, x)


def behind(layer, shape):
    """Costs of the layer where its input needs a gradient."""
    found = inspect_model(nn.Sequential(Scale(), layer), shape)
    return next((row.cost for row in found.layers if row.name == "1"), NOTHING)


class Scale(nn.Module):
    def __init__(self):
        super().__init__()
        self.factor = nn.Parameter(torch.ones(()))

    def forward(self, x):
        return x * self.factor


def test_kalinear_by_hand():
    cost = behind(KALinear(4, 6), (7, 4))
    n, product, bias = 7 * 4, 2 * 7 * 4 * 6, 7 * 6
    assert cost.forward == Flops(product, FORWARD * n + TABLE, bias)
    assert cost.backward == Flops(2 * product, AGAIN * n + (1 + 2) * TABLE, bias)


@pytest.mark.parametrize("norm", ["batch", "instance", "group", "layer"])
def test_a_norm_within_a_unit_costs_what_a_norm_costs(norm):
    rows = {row.name: row for row in inspect_model(nn.Sequential(KAConv2d(4, 6, 3, norm=norm, bias=False)), (2, 4, 8, 8)).layers}
    assert rows["0.norm"].cost == Cost(Flops(other=512 * 8), Flops(other=512 * 9))
    assert rows["0.norm"].output == (2, 4, 8, 8)
    assert rows["0"].cost == behind(KAConv2d(4, 6, 3, bias=False), (2, 4, 8, 8))


def test_free_frozen_and_saved():
    free = behind(KALinear(4, 6, spline=Spline(input_grad="free", base="identity")), (7, 4))
    assert free.backward.spline == (FORWARD - 4 + BACKWARD - 8 - 5) * 28 + (1 + 2) * TABLE
    saved = behind(KALinear(4, 6, spline=Spline(recompute=False)), (7, 4))
    assert saved.backward.spline == BACKWARD * 28 + 2 * TABLE
    frozen = KALinear(4, 6)
    frozen.weight.requires_grad_(False)
    assert behind(frozen, (7, 4)).backward.linear == 2 * 7 * 4 * 6
    assert inspect_model(frozen.requires_grad_(False), (7, 4)).total().cost.backward == Flops()


def test_a_directly_stacked_kan_evaluates_splines_at_every_kernel_offset():
    spline, shape = Spline(sharing="edge"), (1, 4, 16, 16)
    stacked, ours = (behind(make(4, 4, 3, spline=spline), shape) for make in (StackedKANConv2d, KAConv2d))
    assert stacked.forward.linear == ours.forward.linear  # the same sums of the same 9 functions
    offsets = 4 * 9 * 14 * 14
    bases = sum(8 + 3 - degree for degree in (1, 2, 3))  # by the recursion, each from two of the degree before
    assert stacked.forward.spline > 3 * bases * offsets
    assert stacked.forward.spline < 12 * bases * offsets


def test_sprecher_block_by_hand():
    rows = {row.name: row for row in inspect_model(nn.Sequential(Scale(), SprecherLinear(4, 6)), (7, 4)).layers}
    inner, table = 7 * 4 * 6, 2 * 16 * 108
    forward, backward = (4 + 0 + 6 + 2) * inner + table, (4 + 0 + 12 + 5) * inner + 2 * table
    assert rows["1"].cost.forward == Flops(2 * inner, forward, 2 * inner + 5 * 42)
    assert rows["1"].cost.backward == Flops(3 * 2 * inner, forward + backward, 2 * 2 * inner + 5 * 42)
    assert rows["1.outer"].cost.forward.spline == (4 + 0 + 6 + 2) * 42 + table


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("sharing", ["layer", 2, "output", "edge"])
def test_kaconv_by_hand(sharing, stride):
    c, out, size, after = 4, 6, 8, 8 // stride
    layer = KAConv2d(c, out, 3, stride=stride, padding=1, bias=False, spline=Spline(sharing=sharing))
    cost = behind(layer, (2, c, size, size))
    n, edges = 2 * c * size**2, c * out * 9
    product = 2 * edges * 2 * after**2
    if sharing in ("layer", 2):
        a = 1 if sharing == "layer" else 2  # every element meets them all; place and base are found once
        forward = n * (8 + a * 8) + a * TABLE
        backward = n * (12 + a * 17) + 2 * a * TABLE + forward
    else:
        m = 8 if sharing == "edge" else 9
        forward = n * (4 + 4 + 4 * 6) + edges * m
        backward = n * (8 + 2 + 4 + 4 * 6) + edges * (24 if sharing == "edge" else 36) + forward
        product *= 9  # SiLU and 8 basis functions
    assert cost.forward == Flops(product, forward)
    assert cost.backward == Flops(2 * product, backward)


def test_grad_free_and_expanded_the_input_costs_the_product_of_the_base_channels():
    layer = KAConv2d(4, 6, 3, padding=1, bias=False, spline=Spline(sharing="output", input_grad="free"))
    product = 2 * 4 * 6 * 9 * 2 * 8**2
    assert behind(layer, (2, 4, 8, 8)).forward.linear == 9 * product
    assert behind(layer, (2, 4, 8, 8)).backward.linear == (9 + 1) * product


@pytest.mark.parametrize("sharing", ["input", "output"])
def test_depthwise_with_an_activation_a_channel(sharing):
    layer = KAConv2d(4, 4, 3, padding=1, groups=4, spline=Spline(sharing=sharing))
    assert not layer.plan.expanded
    cost = behind(layer, (2, 4, 8, 8))
    n = 2 * 4 * 64  # every element meets one of the four
    assert cost.forward == Flops(2 * 9 * n, FORWARD * n + 4 * TABLE, n)
    assert cost.backward == Flops(2 * 2 * 9 * n, AGAIN * n + (1 + 2) * 4 * TABLE, n)


def test_three_dimensions_and_padding_that_repeats_the_input():
    cost = behind(KAConv3d(2, 3, 3, padding=1, padding_mode="replicate"), (1, 2, 5, 6, 7))
    assert cost.forward.spline == 2 * 7 * 8 * 9 * FORWARD + TABLE
    assert cost.forward.linear == 2 * 27 * 2 * 3 * 5 * 6 * 7
    same = behind(KAConv3d(2, 3, (3, 1, 5), padding="same", dilation=2, padding_mode="circular"), (1, 2, 9, 9, 9))
    assert same.forward.spline == 2 * (9 + 4) * 9 * (9 + 8) * FORWARD + TABLE


def test_spline_activation_by_hand():
    cost = behind(SplineActivation(Spline(spline_order=2, base="relu")), (3, 5))
    assert cost.forward.spline == (4 + 1 + 4 + 2) * 15 + 2 * 9 * 11
    assert cost.backward.spline == (4 + 2 + 5 + 2 + 3 + 3) * 15 + 2 * 2 * 9 * 11


@pytest.mark.parametrize(
    ("module", "forward", "backward"),
    [
        (nn.BatchNorm2d(4), 8, 9),
        (nn.GroupNorm(2, 4), 8, 9),
        (nn.InstanceNorm2d(4, affine=True), 8, 9),
        (nn.LayerNorm(8), 8, 9),
        (nn.SiLU(), 4, 9),
        (nn.Tanh(), 1, 4),
        (nn.Softmax(1), 5, 4),
        (nn.Flatten(), 0, 0),
        (nn.ZeroPad2d(1), 0, 0),
    ],
    ids=lambda p: type(p).__name__,
)
def test_elementwise_conventions(module, forward, backward):
    assert behind(module, (2, 4, 8, 8)) == Cost(Flops(other=512 * forward), Flops(other=512 * backward))


class Functional(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


@pytest.mark.parametrize(
    ("function", "forward", "backward"),
    [
        (lambda x: F.max_pool2d(x, 2), 4 * 16, 16),
        (lambda x: F.avg_pool2d(x, (2, 4)), 8 * 8, 8),
        (lambda x: F.interpolate(x, scale_factor=2, mode="bilinear"), 7 * 256, 8 * 256),
        (lambda x: F.interpolate(x, scale_factor=2), 0, 256),
        (lambda x: x + x, 64, 0),
        (lambda x: x * x, 64, 2 * 2 * 64),
        (lambda x: x.mean(), 64, 0),
        (lambda x: x.clone().reshape(8, 8), 0, 0),
    ],
)
def test_functions_within_a_forward_are_seen(function, forward, backward):
    cost = behind(Functional(function), (1, 1, 8, 8))
    assert (cost.forward, cost.backward) == (Flops(other=forward), Flops(other=backward))


@pytest.mark.parametrize("options", [{"padding": 1}, {"stride": 2, "dilation": 2}, {"padding": "same"}, {"padding": "valid"}])
def test_three_counts_of_one_convolution(options):
    layer = KAConv2d(3, 5, 3, **options)
    x = torch.randn(2, 3, 10, 12)
    numbers = {"same": {"padding": 1}, "valid": {}}.get(options.get("padding"), options)
    unfolded = F.unfold(x, 3, **numbers)
    found = spline_evaluations(layer, x.shape)
    assert found.before_unfolding == x.numel()
    assert found.after_unfolding == unfolded.numel()
    assert found.each_edge == 5 * unfolded.numel()


@pytest.mark.parametrize("sharing", ["layer", 2, "output"])
def test_the_counter_of_torch_sees_the_splines_of_a_layer(sharing):
    layer = KAConv2d(4, 6, 3, bias=False, spline=Spline(sharing=sharing))
    x = torch.randn(2, 4, 8, 8)
    with FlopCounterMode(display=False) as counter:
        layer(x)
    cost = inspect_model(layer, x.shape).total().cost
    compose = 4 * 6 * 9 * 9 if sharing == "output" else 0  # λ c is made by plain products, which torch does not count
    assert counter.get_total_flops() == cost.forward.total - compose


def test_the_counter_of_torch_sees_the_backward_operators():
    x = torch.randn(2, 4, 8, 8, requires_grad=True)
    coef, weight = torch.randn(2, 8, requires_grad=True), torch.randn(2, requires_grad=True)
    y = torch.ops.allukan.shared_spline(x, coef, weight, -3.0, 3.0, 3, "bspline", "silu", True, 1, "eager")
    z = torch.ops.allukan.basis_expansion(x, -3.0, 3.0, 5, 3, "bspline", "silu", False)
    with FlopCounterMode(display=False) as counter:
        (y.sum() + z.sum()).backward()
    assert counter.get_total_flops() == 512 * (12 + 2 * 17) + 2 * 2 * TABLE + 512 * (8 + 2)
