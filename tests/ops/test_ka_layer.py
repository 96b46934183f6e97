"""KA layers, values and every gradient, against scipy's B-splines and torch's linear maps put together in float64.

The oracle knows nothing of tables, runs of channels or hand-written backward passes: basis functions of
``scipy.interpolate.BSpline``, one term of φ after the other, ``F.conv*d`` and ``F.linear``, and autograd.
"""

import itertools
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.interpolate import BSpline

from allukan.nn import KAConv1d, KAConv2d, KAConv3d, KALinear, Spline

CHUNK = "allukan.ops.layer._CHUNK"
SHARINGS = ("layer", "input", 2, "output", "edge")
NAMES = ("y", "x", "weight", "base_weight", "coef", "bias")
# relative RMS: float64 has 1e-16 a rounding; float32 6e-8, and gradients are sums in which much cancels
CLOSE = {torch.float64: dict.fromkeys(NAMES, 1e-12), torch.float32: {**dict.fromkeys(NAMES, 1e-5), "y": 2e-6}}
# class, inputs, outputs, options, shape of x
LAYERS = {
    "linear": (KALinear, 3, 4, {}, (5, 3)),
    "linear-of-a-vector": (KALinear, 3, 4, {}, (3,)),
    "linear-of-tokens": (KALinear, 5, 2, {"bias": False}, (2, 3, 5)),
    "1d-stride-groups": (KAConv1d, 4, 6, {"kernel_size": 3, "stride": 2, "padding": 1, "groups": 2}, (3, 4, 17)),
    "2d-dilation": (
        KAConv2d,
        3,
        4,
        {"kernel_size": (3, 2), "stride": (2, 1), "padding": (2, 1), "dilation": (1, 2), "bias": False},
        (2, 3, 11, 7),
    ),
    "2d-same-even": (KAConv2d, 2, 4, {"kernel_size": (2, 4), "padding": "same"}, (3, 2, 5, 9)),
    "2d-depthwise": (KAConv2d, 4, 4, {"kernel_size": 3, "padding": 1, "groups": 4}, (2, 4, 6, 5)),
    "2d-pointwise": (KAConv2d, 3, 2, {"kernel_size": 1}, (2, 3, 13, 11)),
    "3d": (KAConv3d, 2, 4, {"kernel_size": (1, 3, 2), "stride": (1, 2, 1), "dilation": (2, 1, 1)}, (2, 2, 3, 7, 4)),
}
MODES = [
    (torch.float64, {}),
    (torch.float64, {"recompute": False, "input_grad": "free"}),
    (torch.float64, {"impl": "reference"}),
    (torch.float64, {"impl": "aten", "input_grad": "free"}),
    (torch.float32, {}),
    (torch.float32, {"recompute": False, "base": "leaky_relu:0.1"}),  # straight lines, which no table holds
    (torch.float32, {"input_grad": "free", "spline_order": 2, "base": "gelu"}),
    (torch.float32, {"impl": "eager", "spline_order": 1, "base": "tanh"}),
]
BASES = {"silu": F.silu, "gelu": F.gelu, "tanh": torch.tanh, "leaky_relu:0.1": lambda x: F.leaky_relu(x, 0.1)}


@pytest.fixture(autouse=True)
def poisoned(monkeypatch):
    """Memory that nobody has written to is NaN, not what happened to lie there."""

    def poison(make):
        def wrapped(*args, **kwargs):
            made = make(*args, **kwargs)
            return made.fill_(math.nan) if made.is_floating_point() and not made.is_meta else made

        return wrapped

    for owner, name in ((torch, "empty"), (torch, "empty_like"), (torch.Tensor, "new_empty")):
        monkeypatch.setattr(owner, name, poison(getattr(owner, name)))


class ScipyBasis(torch.autograd.Function):
    """x ``(...)`` → B_0(x) … B_{M-1}(x), ``(M, ...)``: each zero beyond its own k + 2 knots, on a uniform grid."""

    @staticmethod
    def forward(ctx, x, spline):
        (lo, hi), k = spline.grid_range, spline.spline_order
        knots = lo + (hi - lo) / spline.grid_size * (np.arange(spline.grid_size + 2 * k + 1) - k)
        elements = [BSpline.basis_element(knots[m : m + k + 2], extrapolate=False) for m in range(spline.coefficients)]
        ctx.slopes = torch.from_numpy(np.stack([np.nan_to_num(e.derivative()(x.numpy())) for e in elements]))
        return torch.from_numpy(np.stack([np.nan_to_num(e(x.numpy())) for e in elements]))

    @staticmethod
    def backward(ctx, grad):
        return (grad * ctx.slopes).sum(0), None


def linear_map(layer, h, weight, groups):
    """h ``(B, C, *S)`` through the linear map of the layer alone, the padding being absent edges."""
    if isinstance(layer, KALinear):
        return F.linear(h, weight)
    pads = layer.padding
    if pads == "same":
        totals = [d * (k - 1) for d, k in zip(layer.dilation, layer.kernel_size, strict=True)]
        h = F.pad(h, [width for total in reversed(totals) for width in (total // 2, total - total // 2)])
        pads = 0
    conv = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}[layer.spatial_dims]
    return conv(h, weight, None, layer.stride, pads, layer.dilation, groups)


def oracle(layer, x, weight, base_weight, coef, bias=None):
    """y_q = Σ_p λ_qp φ_a(q)(x_p) + β_q, one output after the other; of edges y_q = Σ_p w_qp b(x_p) + λ_qp Σ_m c_qpm B_m(x_p)."""
    s, groups, at = layer.spline, getattr(layer, "groups", 1), -1 if isinstance(layer, KALinear) else 1
    terms = ScipyBasis.apply(x if s.input_grad == "exact" else x.detach(), s)
    base = BASES[s.base](x)
    if s.sharing == "edge":
        shares = [base_weight.view_as(weight), *(weight * c.view_as(weight) for c in coef.T)]
        y = sum(linear_map(layer, term, share, groups) for term, share in zip([base, *terms], shares, strict=True))
    else:
        outputs, inputs = len(weight), x.shape[at]
        parts = []
        for q in range(outputs):
            group = q * groups // outputs
            own = slice(group * inputs // groups, (group + 1) * inputs // groups)
            b, *t = (term.movedim(at, 0)[own].movedim(0, at) for term in (base, *terms))
            if s.sharing == "input":
                view = [-1] if at == -1 else [-1, *[1] * layer.spatial_dims]
                phi = base_weight[own].view(view) * b + sum(c[own].view(view) * m for c, m in zip(coef.T, t, strict=True))
            else:
                a = q * len(coef) // outputs
                phi = base_weight[a] * b + sum(c * m for c, m in zip(coef[a], t, strict=True))
            parts.append(linear_map(layer, phi, weight[q : q + 1], 1))
        y = torch.cat(parts, at)
    return y if bias is None else y + (bias if at == -1 else bias.view(-1, *[1] * layer.spatial_dims))


def made(kind, dtype=torch.float64, **options):
    """A layer with random parameters and an input that reaches beyond the grid on both sides."""
    cls, inputs, outputs, arguments, shape = LAYERS[kind]
    layer = cls(inputs, outputs, **arguments, spline=Spline(**options), dtype=dtype)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.copy_(torch.randn(parameter.shape, dtype=torch.float64))
    return layer, (2 * torch.randn(shape, dtype=torch.float64)).to(dtype)


def tensors(layer, x):
    """x and the parameters in the order of ``NAMES``, as leaves."""
    parameters = [getattr(layer, name) for name in NAMES[2:]]
    return [x.detach().requires_grad_(), *(p for p in parameters if p is not None)]


def rms(found, wanted):
    wanted = wanted.detach()
    return float((found.detach().double() - wanted).norm() / wanted.norm().clamp(min=1e-12))


def compare(layer, x):
    """Output and every gradient of the layer and of the oracle; raises where they differ."""
    mine = tensors(layer, x)
    y = layer(mine[0])
    wide = [t.detach().double().contiguous().requires_grad_() for t in mine]
    wanted = oracle(layer, *wide)
    g = torch.randn(wanted.shape, dtype=torch.float64)
    found = [y, *torch.autograd.grad(y, mine, g.to(y.dtype))]
    expected = [wanted, *torch.autograd.grad(wanted, wide, g)]
    for name, a, b in zip(NAMES, found, expected, strict=False):
        assert a.shape == b.shape, name
        assert rms(a, b) < CLOSE[x.dtype][name], (name, rms(a, b))
    return found


@pytest.mark.parametrize(("dtype", "options"), MODES, ids=str)
@pytest.mark.parametrize("sharing", SHARINGS)
@pytest.mark.parametrize("kind", LAYERS)
def test_values_and_every_gradient_are_the_compositions(kind, sharing, dtype, options):
    compare(*made(kind, dtype, sharing=sharing, **options))


@pytest.mark.parametrize(("dtype", "options"), MODES, ids=str)
@pytest.mark.parametrize("sharing", [3, 6], ids=["across-groups", "within-groups"])
def test_so_are_those_of_more_activations_than_groups(sharing, dtype, options):
    compare(*made("1d-stride-groups", dtype, sharing=sharing, **options))


@pytest.mark.parametrize("sharing", SHARINGS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_so_are_those_of_channels_last(sharing, dtype):
    layer, x = made("2d-dilation", dtype, sharing=sharing)
    found = compare(layer, x.contiguous(memory_format=torch.channels_last))
    volume, cube = made("3d", dtype, sharing=sharing)
    compare(volume, cube.contiguous(memory_format=torch.channels_last_3d))
    assert found[1].shape == x.shape


@pytest.mark.parametrize("sharing", SHARINGS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_so_are_those_of_inputs_with_gaps(sharing, dtype):
    """A view of every other sample, a slice and a transposed matrix."""
    layer, x = made("2d-pointwise", dtype, sharing=sharing)
    gaps = torch.full((4, 3, 13, 30), math.nan, dtype=dtype)
    gaps[::2, :, :, 4:15] = x
    compare(layer, gaps[::2, :, :, 4:15])
    linear, rows = made("linear", dtype, sharing=sharing)
    compare(linear, rows.T.contiguous().T)


@pytest.mark.parametrize("recompute", [False, True])
@pytest.mark.parametrize("sharing", SHARINGS)
@pytest.mark.parametrize("kind", ["linear", "1d-stride-groups", "2d-same-even", "3d"])
def test_an_empty_batch_has_empty_outputs_and_no_gradient(kind, sharing, recompute):
    layer, x = made(kind, torch.float32, sharing=sharing, recompute=recompute)
    nothing, *parameters = tensors(layer, x[:0])
    y = layer(nothing)
    assert y.shape == (0, *layer(x).shape[1:])
    for tensor, grad in zip((nothing, *parameters), torch.autograd.grad(y.sum(), (nothing, *parameters)), strict=True):
        assert grad.shape == tensor.shape
        assert not grad.any()


@pytest.mark.parametrize("sharing", SHARINGS)
@pytest.mark.parametrize("recompute", [False, True])
def test_what_is_frozen_gets_none_and_the_rest_the_same(sharing, recompute):
    layer, x = made("1d-stride-groups", torch.float64, sharing=sharing, recompute=recompute)
    everything = tensors(layer, x)
    full = torch.autograd.grad(layer(everything[0]).square().sum(), everything)
    for asked in itertools.product([True, False], repeat=len(full)):
        leaves = tensors(layer, x)
        for leaf, wanted in zip(leaves, asked, strict=True):
            leaf.grad = None
            leaf.requires_grad_(wanted)
        if any(asked):
            layer(leaves[0]).square().sum().backward()
        for leaf, wanted, grad in zip(leaves, asked, full, strict=True):
            assert (leaf.grad is not None) == wanted
            if wanted:
                torch.testing.assert_close(leaf.grad, grad)


@pytest.mark.parametrize("sharing", SHARINGS)
@pytest.mark.parametrize("kind", ["linear", "1d-stride-groups"])
def test_gradients_are_finite_differences(kind, sharing):
    layer, x = made(kind, sharing=sharing, recompute=sharing == "input")
    names = [name for name, _ in layer.named_parameters()]

    def function(x, *parameters):
        return torch.func.functional_call(layer, dict(zip(names, parameters, strict=True)), (x,))

    x = x[:1, ..., :7] + 0.0137  # away from the knots, where a difference straddles two pieces
    leaves = [t.detach().requires_grad_() for t in (x, *layer.parameters())]
    assert torch.autograd.gradcheck(function, leaves)


@pytest.mark.parametrize("sharing", SHARINGS)
def test_large_inputs_in_parts_are_the_same(sharing, monkeypatch):
    """The expanded basis exists for some samples at a time; one at a time here."""
    monkeypatch.setattr(CHUNK, 1)
    for input_grad in ("exact", "free"):
        compare(*made("2d-same-even", torch.float32, sharing=sharing, input_grad=input_grad))


@pytest.mark.parametrize(
    ("sharing", "recompute", "maps"),
    [
        *[("layer", False, 2), ("layer", True, 1), ("input", False, 2), ("input", True, 1), (2, False, 3), (2, True, 1)],
        *[("output", False, 1), ("output", True, 1), ("edge", False, 1), ("edge", True, 1)],
    ],
)
def test_saved_are_the_input_and_without_recompute_phi_of_it(sharing, recompute, maps):
    """In sizes of the input, parameters aside; φ is one a number of activations, the expanded basis, nine of them, never kept."""
    layer, x = KAConv2d(4, 4, 3, spline=Spline(sharing=sharing, recompute=recompute)), torch.randn(2, 4, 24, 24)
    parameters, saved = {p.data_ptr() for p in layer.parameters()}, []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: saved.append(t) or t, lambda t: t):
        layer(x.requires_grad_())
    kept = {t.data_ptr(): t.nbytes for t in saved if t.data_ptr() not in parameters}
    assert sum(kept.values()) == maps * x.nbytes
