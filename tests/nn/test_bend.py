"""Bend and the nearest fixed activations, against least squares of numpy on the inputs themselves."""

import numpy as np
import pytest
import torch
from torch import nn

from allukan.nn import KAConv2d, KAFork2d, KALinear, Spline, SplineActivation, SprecherLinear, StackedKANConv2d, StackedKANLinear
from allukan.nn.bend import bend, bends, coefficients, median_bend, nearest_base, network_bends, parts, values
from allukan.nn.histogram import collect_inputs
from allukan.nn.init import flat
from allukan.ops import basis_expansion
from allukan.ops.activations import base_function

NORMS = {"batch": nn.BatchNorm2d(6), "instance": nn.InstanceNorm2d(6, affine=True), "group": nn.GroupNorm(3, 6)}


def bent(layer, size=0.5):
    """Random activations, scales and shifts."""
    for name, parameter in layer.named_parameters():
        if name.endswith(("coef", "base_weight", "norm.bias")):
            nn.init.normal_(parameter, std=size)
        if name.endswith("norm.weight"):
            nn.init.uniform_(parameter, 0.5, 1.5)
    return layer


def fitted(t, phi, base):
    """Bend, a and c by numpy's least squares on raw inputs."""
    design = np.stack([base, np.ones_like(base)], 1)
    (a, c), *_ = np.linalg.lstsq(design, phi, rcond=None)
    return np.sqrt(np.mean((phi - a * base - c) ** 2)) / phi.std(), a, c


def curves(spline, t, base_weight, coef):
    """φ(t) ``(A, n)`` by the expanded basis, and b(t)."""
    grid = (spline.grid_size, spline.spline_order, spline.grid_range)
    terms = basis_expansion(t.double().view(-1, 1), *grid, basis=spline.basis, base=spline.base)
    weights = torch.cat([base_weight.unsqueeze(1), coef], 1).double()
    return (weights @ terms.T).detach().numpy(), base_function(spline.base)(t.double()).numpy()


def expected(layer, inputs):
    """The oracle: for each activation the channels it reads, by the definitions of the sharings."""
    out, per_group = layer.weight.shape[:2]
    groups, sharing = inputs.shape[1] // per_group, layer.spline.sharing
    found = []
    for a in range(len(layer.coef)):
        coef = layer.coef[a : a + 1]
        if sharing == "edge":
            q, p = divmod(a // layer.weight[0, 0].numel(), per_group)
            channels = [q // (out // groups) * per_group + p]
            coef = coef * layer.weight.flatten()[a]
        elif sharing == "input":
            channels = [a]
        else:
            outputs = range(a * out // len(layer.coef), (a + 1) * out // len(layer.coef))
            channels = [q // (out // groups) * per_group + p for q in outputs for p in range(per_group)]
        t = torch.cat([inputs[:, c].flatten() for c in channels])
        phi, base = curves(layer.spline, t, layer.base_weight[a : a + 1], coef)
        found.append(fitted(t, phi[0], base))
    return np.array(found)


def agrees(layer, x, inputs):
    histogram = collect_inputs(layer, [x])[""]
    want = expected(layer, inputs)
    assert bends(layer, histogram).numpy() == pytest.approx(want[:, 0], rel=0.03, abs=1e-6)
    a, c = nearest_base(layer, histogram)
    scale = np.abs(want[:, 1:]).mean()
    assert a.numpy() == pytest.approx(want[:, 1], abs=0.05 * scale)
    assert c.numpy() == pytest.approx(want[:, 2], abs=0.05 * scale)
    assert bend(layer, histogram) == pytest.approx(np.sqrt(np.mean(want[:, 0] ** 2)), rel=0.03)
    assert bend(layer, histogram.coarser()) == pytest.approx(bend(layer, histogram), rel=0.1)


@pytest.mark.parametrize(
    ("sharing", "groups"),
    [
        ("layer", 1),
        ("layer", 2),
        (2, 1),
        (4, 2),
        (4, 4),
        ("input", 1),
        ("input", 2),
        ("output", 1),
        ("output", 2),
        ("edge", 1),
        ("edge", 2),
    ],
)
def test_every_sharing_agrees_with_least_squares_on_what_each_activation_reads(sharing, groups):
    layer = bent(KAConv2d(4, 8, 3, padding=1, groups=groups, spline=Spline(sharing=sharing)))
    x = torch.randn(4, 4, 40, 40) * torch.tensor([0.3, 1.0, 2.0, 3.0]).view(1, 4, 1, 1) + torch.linspace(-1, 1, 4).view(
        1, 4, 1, 1
    )
    agrees(layer, x, x)


def test_groups_of_outputs_that_straddle_groups_of_channels():
    layer = bent(KAConv2d(4, 12, 3, groups=4, spline=Spline(sharing=3)))
    x = torch.randn(4, 4, 40, 40) * torch.tensor([0.3, 1.0, 2.0, 3.0]).view(1, 4, 1, 1)
    agrees(layer, x, x)


@pytest.mark.parametrize("kind", NORMS)
@pytest.mark.parametrize("impl", ["auto", "reference"])  # in one operation and in several
def test_a_unit_meets_its_normalised_scaled_and_shifted_inputs(kind, impl):
    layer = bent(KAConv2d(6, 4, 3, norm=kind, spline=Spline(sharing="input", impl=impl)))
    x = 5 + 3 * torch.randn(4, 6, 40, 40)
    layer(x)  # batch norm: running statistics of its own
    norm = NORMS[kind]
    norm.load_state_dict(layer.norm.state_dict())
    agrees(layer.eval(), x, norm.eval()(x).detach())


def test_rows_with_a_layer_norm():
    layer = bent(KALinear(6, 4, norm="layer", spline=Spline(sharing="output")))
    x = 5 + 3 * torch.randn(3, 2000, 6)
    inputs = nn.functional.layer_norm(x, (6,), layer.norm.weight, layer.norm.bias).detach()
    agrees(layer, x, inputs.reshape(-1, 6))


@pytest.mark.parametrize(
    "layer",
    [
        KAFork2d(4, 8, 3, 3, padding=1),
        KAConv2d(4, 8, 3, padding=1, padding_mode="circular"),
        StackedKANConv2d(4, 3, 3, padding=1),
        KAConv2d(4, 4, 1, spline=Spline(grid_size=20, basis="chebyshev", base="gelu")),
        KAConv2d(4, 4, 1, spline=Spline(grid_size=3, spline_order=5, grid_range=(0.0, 2.0), base="relu")),
    ],
    ids=lambda layer: type(layer).__name__,
)
def test_other_layers_and_splines(layer):
    x = torch.randn(4, 4, 16, 16)
    border = layer._border
    agrees(bent(layer), x, nn.functional.pad(x, border, mode="circular") if border else x)


def test_edges_of_a_matrix():
    x = torch.randn(2000, 5)
    agrees(bent(StackedKANLinear(5, 3)), x, x)


@pytest.mark.parametrize("sharing", ["layer", "input", 2, "output", "edge"])
def test_a_base_and_a_constant_do_not_bend(sharing):
    layer = KAConv2d(4, 4, 3, spline=Spline(sharing=sharing))
    with torch.no_grad():
        layer.base_weight.fill_(-1.7)
        layer.coef.copy_(0.6 * torch.tensor(flat(layer.spline)))
        layer.weight.fill_(2.0)
    histogram = collect_inputs(layer, [torch.rand(2, 4, 20, 20) * 5.9 - 2.95])[""]
    assert bend(layer, histogram) < 1e-7
    a, c = nearest_base(layer, histogram)
    constant = 1.2 if sharing == "edge" else 0.6  # an edge has λ within φ
    assert torch.allclose(a, torch.full_like(a, -1.7), atol=1e-6)
    assert torch.allclose(c, torch.full_like(c, constant), atol=1e-6)


def test_a_sine_bends_as_a_sine_does():
    """Of sin t over even t on (-3, 3) the line, for base "identity", leaves √(1 - ρ²), ρ the correlation of t and sin t."""
    phi = SplineActivation(Spline(grid_size=20, base="identity"))
    t = torch.linspace(-3, 3, 4000, dtype=torch.float64)
    basis = basis_expansion(t.view(-1, 1), 20, 3, (-3.0, 3.0))[:, 1:]
    with torch.no_grad():
        phi.base_weight.zero_()
        phi.coef.copy_(torch.linalg.lstsq(basis, torch.sin(t).view(-1, 1)).solution.T)
    rho = np.corrcoef(t, np.sin(t))[0, 1]
    assert bend(phi, collect_inputs(phi, [t.float()])[""]) == pytest.approx(np.sqrt(1 - rho**2), rel=1e-3)


def test_what_has_no_spread_or_met_nothing_has_no_bend():
    network = nn.ModuleDict({"seen": bent(KALinear(3, 2)), "constant": KALinear(3, 2), "unseen": bent(KALinear(3, 2))})
    with torch.no_grad():
        network["constant"].base_weight.zero_()
        network["constant"].coef.copy_(torch.tensor(flat(Spline())))
    network.forward = lambda x: network["seen"](x) + network["constant"](x.clamp(-2, 2))
    histograms = collect_inputs(network, [torch.randn(100, 3)])
    found = network_bends(network, histograms)
    assert found["seen"] > 0.05
    assert np.isnan([found["constant"], found["unseen"]]).all()
    assert median_bend(network, histograms) == pytest.approx(found["seen"])


def test_a_sprecher_block_shows_its_outer_activation():
    block = bent(SprecherLinear(4, 3))
    histograms = collect_inputs(block, [torch.randn(50, 4)])
    assert list(histograms) == ["outer"]
    assert int(histograms["outer"].counts.sum()) == 150


@pytest.mark.parametrize("sharing", ["layer", "edge"])
def test_the_parts_of_an_activation_make_up_what_a_layer_computes(sharing):
    layer = bent(KALinear(1, 3, bias=False, spline=Spline(sharing=sharing)))
    t = torch.linspace(-3.5, 3.5, 50)
    base, spline = parts(layer, t, torch.arange(len(layer.coef)))
    phi = base + spline if sharing == "edge" else (base + spline) * layer.weight.double()  # an edge has its λ in it
    assert torch.allclose(phi.T.float(), layer(t.unsqueeze(1)), atol=1e-5)
    assert torch.allclose(base + spline, values(layer.spline, coefficients(layer), t.double()))
