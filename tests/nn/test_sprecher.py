"""The block of Sprecher Networks against its formula, term by term, with scipy's B-splines."""

import itertools

import pytest
import scipy.interpolate
import torch
from torch.nn.functional import softplus

from allukan.costs import parameter_count, saved_bytes
from allukan.nn import SPRECHER, Spline, SprecherLinear, sprecher
from allukan.ops import bspline

WIDTHS = [(3, 3), (2, 5), (5, 2), (4, 1)]
SMALL = Spline(grid_size=6, grid_range=(-2.0, 3.0), base="tanh")


def randomise(layer):
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.normal_()
    return layer


def scipy_spline(coef, s, grid_range):
    return scipy.interpolate.BSpline(bspline.knots(s.grid_size, s.spline_order, grid_range).numpy(), coef.numpy(), s.spline_order)


@torch.no_grad()
def naive(layer, x):
    """y_q one by one: φ, sum, α q, lateral mixing, Φ, residual."""
    s, p, q = layer.spline, layer.in_features, layer.out_features
    lo, hi = s.grid_range
    rising = softplus(layer.increments).cumsum(0)
    inner = scipy_spline(rising / rising[-1], s, s.grid_range)
    outer_range = (-3.0, 3.0 + layer.alpha * (q - 1))
    outer = scipy_spline(layer.outer.coef[0], s, outer_range)
    sums = torch.zeros(len(x), q, dtype=x.dtype)
    for j, i in itertools.product(range(q), range(p)):
        t = (x[:, i] + layer.shift * j).clamp(lo, hi - 1e-12)
        sums[:, j] += layer.weight[i] * torch.from_numpy(inner(t.numpy()))
    sums += layer.alpha * torch.arange(q)
    if layer.mixing is not None:
        sums = sums + layer.mixing_scale * layer.mixing * torch.stack([sums[:, (j + 1) % q] for j in range(q)], 1)
    inside = (sums > outer_range[0]) & (sums < outer_range[1])
    assert inside.any()
    y = layer.outer.base_weight * torch.tanh(sums) + torch.from_numpy(outer(sums.numpy()))
    for i in range(max(p, q) if layer.residual is not None else 0):
        w = layer.residual[i if p != q else 0]
        y[:, i % q] += w * x[:, i % p]
    return y, inside


@pytest.mark.parametrize(("p", "q"), WIDTHS)
@pytest.mark.parametrize("extras", [True, False])
@pytest.mark.parametrize("chunk", [1, 1 << 22])
def test_it_is_the_formula(p, q, extras, chunk, monkeypatch):
    monkeypatch.setattr(sprecher, "CHUNK", chunk)
    layer = randomise(SprecherLinear(p, q, spline=SMALL, lateral=extras, residual=extras, dtype=torch.float64))
    x = 1.5 * torch.randn(40, p, dtype=torch.float64)
    expected, inside = naive(layer, x)
    torch.testing.assert_close(layer(x)[inside], expected[inside])  # outside the grid scipy extrapolates, we run out to zero
    torch.testing.assert_close(layer(x.view(5, 8, p)).view(40, q), layer(x))


@pytest.mark.parametrize(("p", "q"), WIDTHS)
def test_gradients_are_those_of_the_values(p, q, monkeypatch):
    monkeypatch.setattr(sprecher, "CHUNK", 2)
    layer = randomise(SprecherLinear(p, q, spline=SMALL, dtype=torch.float64))
    x = (0.8 * torch.randn(4, p, dtype=torch.float64)).requires_grad_()
    names, values = zip(*layer.named_parameters(), strict=True)
    leaves = [v.detach().clone().requires_grad_() for v in values]

    def run(x, *parameters):
        return torch.func.functional_call(layer, dict(zip(names, parameters, strict=True)), (x,))

    assert torch.autograd.gradcheck(run, (x, *leaves))


@torch.no_grad()
def test_the_inner_spline_rises_from_nought_to_one_and_stays():
    layer = SprecherLinear(1, 1, spline=SMALL, lateral=False, residual=False, dtype=torch.float64)
    layer.weight.fill_(1)
    layer.outer.base_weight.fill_(1)
    layer.outer.spline = Spline(grid_size=6, base="identity")  # Φ the identity: what is left is φ
    for _ in range(10):
        layer.increments.normal_(std=3)
        phi = layer(torch.linspace(-9, 9, 400, dtype=torch.float64).view(-1, 1)).flatten()
        assert (phi.diff() >= -1e-12).all()
        assert 0 <= phi[0] < phi[-1] <= 1
        assert phi[:100].unique().numel() == phi[-100:].unique().numel() == 1


def test_parameters_number_the_widths_not_their_product():
    m = SPRECHER.coefficients
    assert parameter_count(SprecherLinear(64, 64)) == 64 + 1 + m + (m + 1) + (64 + 1) + 1
    assert parameter_count(SprecherLinear(64, 32)) == 64 + 1 + m + (m + 1) + (32 + 1) + 64
    assert parameter_count(SprecherLinear(64, 32, lateral=False, residual=False)) == 64 + 1 + m + (m + 1)


def test_the_values_of_every_pair_are_not_kept():
    n, p, q = 32, 160, 120
    layer, x = SprecherLinear(p, q), torch.randn(n, p, requires_grad=True)
    assert saved_bytes(lambda: layer(x), layer) < 4 * n * (2 * p + 4 * q) < 4 * n * p * q / 10


@pytest.mark.parametrize(
    "options", [{"alpha": 0.5}, {"lateral": False}, {"residual": False}, {"spline": {"grid_range": (-1, 1)}}]
)
def test_every_option_changes_the_output(options):
    if "spline" in options:
        options = {"spline": SPRECHER.updated(options["spline"])}
    layers = []
    for given in ({}, options):
        torch.manual_seed(0)
        layers.append(SprecherLinear(5, 5, **given))
    x = torch.randn(9, 5)
    assert not torch.allclose(layers[0](x), layers[1](x), rtol=1e-3)


def test_precision_under_autocast_and_in_bf16():
    layer, x = SprecherLinear(6, 40), torch.randn(7, 6)
    with torch.autocast("cpu", torch.bfloat16):
        out = layer(x.bfloat16())
    assert out.dtype == torch.float32
    torch.testing.assert_close(out, layer(x.bfloat16().float()))
    assert layer.bfloat16()(x.bfloat16()).dtype == torch.bfloat16


@pytest.mark.parametrize(
    ("make", "word"),
    [
        (lambda: SprecherLinear(4, 3)(torch.zeros(2, 3)), "expects 4 features"),
        (lambda: SprecherLinear(4, 3, spline=Spline(sharing="edge")), "sharing='layer'"),
        (lambda: SprecherLinear(4, 3, spline=Spline(input_grad="free")), "input_grad='exact'"),
    ],
)
def test_wrong_use(make, word):
    with pytest.raises(ValueError, match=word):
        make()
