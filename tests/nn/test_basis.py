"""KA layers of every basis: shared and edge against the double loop, gradients, training, initialisation, conversion."""

import copy
import itertools
from pathlib import Path

import pytest
import torch
from torch import nn

from allukan.costs import inspect_model, parameter_count, saved_bytes
from allukan.models import build_model
from allukan.nn import (
    SPRECHER,
    KAConv2d,
    KALinear,
    Spline,
    SplineActivation,
    SprecherLinear,
    StackedKANConv2d,
    StackedKANLinear,
    convert,
)
from allukan.ops.activations import BASES, base_function
from allukan.ops.basis import FAMILIES

OTHERS = [name for name in FAMILIES if name != "bspline"]
SHARINGS = ("layer", 2, "output", "edge")


def randomise(layer):
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.normal_()
    return layer


def naive_linear(layer, x):
    """One edge after the other."""
    s, (outputs, width) = layer.spline, layer.weight.shape
    values, base = FAMILIES[s.basis].values(x, s.grid_size, s.spline_order, s.grid_range), base_function(s.base)(x)
    out = torch.zeros(len(x), outputs, dtype=x.dtype)
    for q, p in itertools.product(range(outputs), range(width)):
        if s.sharing == "edge":
            edge = q * width + p
            out[:, q] += layer.base_weight[edge] * base[:, p] + layer.weight[q, p] * (values[:, p] @ layer.coef[edge])
        else:
            a = q * len(layer.coef) // outputs
            out[:, q] += layer.weight[q, p] * (layer.base_weight[a] * base[:, p] + values[:, p] @ layer.coef[a])
    return out + layer.bias


@pytest.mark.parametrize("basis", OTHERS)
@pytest.mark.parametrize("sharing", SHARINGS)
def test_linear_and_convolution_are_the_double_loop(basis, sharing):
    layer = randomise(KALinear(5, 4, spline=Spline(sharing=sharing, basis=basis), dtype=torch.float64))
    x = 2 * torch.randn(7, 5, dtype=torch.float64)
    expected = naive_linear(layer, x)
    torch.testing.assert_close(layer(x), expected)
    torch.testing.assert_close(copy.deepcopy(layer).float()(x.float()).double(), expected, rtol=1e-4, atol=1e-4)
    conv = KAConv2d(5, 4, 1, spline=layer.spline, dtype=torch.float64)
    with torch.no_grad():
        for mine, theirs in zip(conv.parameters(), layer.parameters(), strict=True):
            mine.copy_(theirs.view_as(mine))
    torch.testing.assert_close(conv(x.view(7, 5, 1, 1)).view(7, 4), expected)


@pytest.mark.parametrize("basis", OTHERS)
@pytest.mark.parametrize("sharing", ["layer", "edge"])
def test_gradients_of_layers_are_finite_differences(basis, sharing):
    for layer, x in (
        (KALinear(3, 2, spline=Spline(2, 2, sharing=sharing, basis=basis)), torch.randn(2, 3, dtype=torch.float64)),
        (
            KAConv2d(2, 2, 2, padding=1, spline=Spline(1, 2, sharing=sharing, basis=basis)),
            torch.randn(1, 2, 2, 3, dtype=torch.float64),
        ),
    ):
        layer = randomise(layer.double())
        names, tensors = zip(*layer.named_parameters(), strict=True)

        def function(x, *tensors, layer=layer, names=names):
            return torch.func.functional_call(layer, dict(zip(names, tensors, strict=True)), (x,))

        assert torch.autograd.gradcheck(function, (x.requires_grad_(), *tensors))


@pytest.mark.parametrize("basis", FAMILIES)
@pytest.mark.parametrize("sharing", ["layer", "edge"])
def test_a_few_steps_fit_a_bump(basis, sharing):
    """And so every parameter learns; the base alone, SiLU, stays above 0.2."""
    x = torch.linspace(-3, 3, 256).unsqueeze(1)
    y = torch.cos(2 * x)
    layer = KALinear(1, 1, spline=Spline(sharing=sharing, basis=basis))
    optimizer = torch.optim.Adam(layer.parameters(), 0.1)
    for _ in range(150):
        optimizer.zero_grad()
        loss = (layer(x) - y).square().mean()
        loss.backward()
        assert all(p.grad.isfinite().all() and p.grad.any() for p in layer.parameters())
        optimizer.step()
    assert loss < 0.1


@pytest.mark.parametrize("basis", OTHERS)
def test_memory_and_parameters_are_those_of_b_splines(basis):
    x = torch.randn(2, 16, 16, 16, requires_grad=True)
    for sharing in ("layer", "edge"):
        mine, splines = (KAConv2d(16, 16, 3, spline=Spline(sharing=sharing, basis=b)) for b in (basis, "bspline"))
        assert parameter_count(mine) == parameter_count(splines)
        assert saved_bytes(lambda m=mine: m(x), mine) == saved_bytes(lambda m=splines: m(x), splines)


@pytest.mark.parametrize("basis", OTHERS)
@pytest.mark.parametrize(
    "change",
    [
        {"grid_size": 8},
        {"spline_order": 2},
        {"grid_range": (-1, 1)},
        {"base": "tanh"},
        {"input_grad": "free"},
        {"basis": "bspline"},
    ],
    ids=str,
)
def test_every_option_changes_something(basis, change):
    def run(spline):
        torch.manual_seed(0)
        layer = KALinear(4, 4, spline=spline)
        with torch.no_grad():
            layer.coef += torch.linspace(0, 1, layer.coef.numel()).view_as(layer.coef)
        x = torch.randn(8, 4, requires_grad=True, generator=torch.Generator().manual_seed(1))
        out = layer(x)
        return out.detach(), torch.autograd.grad(out.sum(), x)[0]

    pairs = zip(run(Spline(basis=basis)), run(Spline(**{"basis": basis, **change})), strict=True)
    assert any(not torch.allclose(a, b) for a, b in pairs)


@pytest.mark.parametrize("input_grad", ["exact", "free"])
@pytest.mark.parametrize("basis", FAMILIES)
def test_variance_survives_twenty_layers(basis, input_grad):
    """Geometric means over three networks, as for B-splines."""
    logs = []
    for seed in range(3):
        torch.manual_seed(seed)
        layers = [KALinear(256, 256, bias=False, spline=Spline(basis=basis, input_grad=input_grad)) for _ in range(20)]
        x = torch.randn(512, 256, requires_grad=True)
        out = nn.Sequential(*layers)(x)
        g = torch.randn_like(out)
        (grad,) = torch.autograd.grad(out, x, g)
        logs.append(torch.stack([out.detach().var(), grad.var() / g.var()]).log())
    forward, backward = torch.stack(logs).mean(0).exp().tolist()
    assert 0.6 < forward < 1.6
    assert 0.5 < backward < 2


@pytest.mark.parametrize("basis", OTHERS)
def test_activations_curves_and_conversion(basis):
    spline = Spline(basis=basis)
    x = 3 * torch.randn(5, 7)
    torch.testing.assert_close(SplineActivation(spline)(x), nn.functional.silu(x))
    layer = randomise(KALinear(1, 2, bias=False, spline=Spline(sharing=2, basis=basis)))
    with torch.no_grad():
        layer.weight.fill_(1)
    t, curves = layer.activation_curves(11)
    torch.testing.assert_close(curves.T, layer(t.view(-1, 1)).detach(), rtol=1e-4, atol=1e-5)
    network = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Conv2d(4, 2, 3))
    ka, _ = convert(network, torch.randn(1, 1, 8, 8), spline)
    assert ka[2].spline.basis == basis
    image = torch.randn(1, 1, 8, 8)
    torch.testing.assert_close(ka(image), network(image), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("basis", FAMILIES)
def test_a_network_of_every_basis_takes_a_step(basis):
    network = build_model("allukan-tiny", in_channels=1, out_channels=1, spatial_dims=2, spline={"basis": basis})
    network(torch.randn(2, 1, 32, 32)).square().mean().backward()
    layers = [m for m in network.modules() if isinstance(m, KALinear | KAConv2d)]
    assert {layer.spline.basis for layer in layers} == {basis}
    assert all(p.grad is not None and p.grad.isfinite().all() for layer in layers for p in layer.parameters())


def test_the_page_says_what_each_basis_is():
    page = (Path(__file__).parents[2] / "docs/model.md").read_text(encoding="utf-8")
    assert not [name for name in FAMILIES if f"\n| `{name}` | " not in page]


def test_flops_are_counted_by_hand():
    """FastKAN's bells: place 2 and, a bell, distance 1, limits 2, square 1, exp 1; slope 3. M = 8, 512 inputs."""
    values, slopes, silu, both = 2 + 8 * 5, 8 * 3, BASES["silu"].flops[0], sum(BASES["silu"].flops)
    shared = inspect_model(KAConv2d(4, 6, 3, bias=False, spline=Spline(basis="rbf")), (2, 4, 8, 8)).total().cost
    assert shared.forward.spline == 512 * (values + silu + 2 * 8 + 2)
    again = shared.forward.spline  # φ(x) is not saved
    assert shared.backward.spline == again + 512 * (values + both + 2 * 8 + 5 + slopes + 2 * 8)
    spline = Spline(basis="rbf", sharing="edge", input_grad="free")
    edge = inspect_model(KAConv2d(4, 6, 3, bias=False, spline=spline), (2, 4, 8, 8)).total().cost
    assert edge.forward.spline == 512 * (values + silu) + 216 * 8
    assert edge.backward.spline == 512 * (values + silu + both + 2) + 216 * (8 + 24)


@pytest.mark.parametrize(
    ("make", "word"),
    [
        (lambda: Spline(basis="splines"), "unknown basis 'splines'"),
        (lambda: StackedKANLinear(2, 2, spline=Spline(sharing="edge", basis="rbf")), "basis 'rbf'"),
        (lambda: StackedKANConv2d(2, 2, 3, spline=Spline(sharing="edge", basis="rbf")), "basis 'rbf'"),
        (lambda: SprecherLinear(2, 2, spline=SPRECHER.updated({"basis": "rbf"})), "got 'rbf'"),
    ],
)
def test_wrong_use_is_told_in_one_sentence(make, word):
    with pytest.raises(ValueError, match=word) as caught:
        make()
    assert "\n" not in str(caught.value)
