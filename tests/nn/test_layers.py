"""KA layers against a naive double loop over edges, and as drop-ins for torch's own layers."""

import copy
import inspect
import itertools
import math
from dataclasses import replace

import pytest
import torch
from torch import nn

from allukan.costs import parameter_count, saved_bytes
from allukan.nn import KAConv1d, KAConv2d, KAConv3d, KALinear, Spline, SplineActivation
from allukan.ops import bspline
from allukan.ops.activations import base_function

SHARINGS = ("layer", "input", 2, "output", "edge")
CONVS = {1: (KAConv1d, nn.Conv1d), 2: (KAConv2d, nn.Conv2d), 3: (KAConv3d, nn.Conv3d)}


def randomise(layer):
    """Away from the initialisation, where all sharings are the same function."""
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.normal_()
    return layer


def of_edges(layer):
    """Base weights and coefficients of sharing="edge" by output, input and offset."""
    return layer.base_weight.view(layer.weight.shape), layer.coef.view(*layer.weight.shape, -1)


def naive_linear(layer, x):
    """y_q = Σ_p λ_qp φ_a(q)(x_p), one edge after the other, by Cox–de Boor."""
    s = layer.spline
    basis = bspline.basis(x, s.grid_size, s.spline_order, s.grid_range)  # (N, P, M)
    base = base_function(s.base)(x)
    out = torch.zeros(len(x), layer.weight.shape[0], dtype=x.dtype)
    for q, p in itertools.product(range(out.shape[1]), range(x.shape[1])):
        if s.sharing == "edge":
            w, c = of_edges(layer)
            out[:, q] += w[q, p] * base[:, p] + layer.weight[q, p] * (basis[:, p] @ c[q, p])
        else:
            a = p if s.sharing == "input" else q * len(layer.coef) // out.shape[1]
            out[:, q] += layer.weight[q, p] * (layer.base_weight[a] * base[:, p] + basis[:, p] @ layer.coef[a])
    return out if layer.bias is None else out + layer.bias


@pytest.mark.parametrize("sharing", SHARINGS)
@pytest.mark.parametrize("bias", [True, False])
def test_linear_is_the_double_loop(sharing, bias):
    layer = randomise(KALinear(5, 4, bias=bias, spline=Spline(sharing=sharing), dtype=torch.float64))
    x = 2 * torch.randn(7, 5, dtype=torch.float64)
    torch.testing.assert_close(layer(x), naive_linear(layer, x))
    torch.testing.assert_close(layer(x.view(7, 1, 5)).view(7, 4), naive_linear(layer, x))


def naive_conv(layer, x, dims):
    """Every output by ``naive_linear`` on its unfolded window; zero padding means that the edge is absent."""
    border = [] if layer.padding_mode == "zeros" else layer._border
    x = nn.functional.pad(x, border, mode=layer.padding_mode) if border else x
    valid = torch.ones_like(x)
    pads = [0] * dims if border else same_padding(layer, x.shape[2:])
    flat = [w for low, high in reversed([p if isinstance(p, tuple) else (p, p) for p in pads]) for w in (low, high)]
    x, valid = nn.functional.pad(x, flat), nn.functional.pad(valid, flat)
    kernel, stride, dilation = layer.kernel_size, layer.stride, layer.dilation
    sizes = [(n - d * (k - 1) - 1) // s + 1 for n, k, s, d in zip(x.shape[2:], kernel, stride, dilation, strict=True)]
    out_channels, per = layer.weight.shape[:2]
    out = torch.zeros(len(x), out_channels, *sizes, dtype=x.dtype)
    s = layer.spline
    basis, base = bspline.basis(x, s.grid_size, s.spline_order, s.grid_range), base_function(s.base)(x)
    for where, q in itertools.product(itertools.product(*map(range, sizes)), range(out_channels)):
        group, a = q * layer.groups // out_channels, q * len(layer.coef) // out_channels
        for p, offset in itertools.product(range(per), itertools.product(*map(range, kernel))):
            place = tuple(w * st + o * d for w, st, o, d in zip(where, stride, offset, dilation, strict=True))
            at, edge = (slice(None), group * per + p, *place), (q, p, *offset)
            if s.sharing == "edge":
                w, c = of_edges(layer)
                y = w[edge] * base[at] + layer.weight[edge] * (basis[at] @ c[edge])
            else:
                a = at[1] if s.sharing == "input" else a
                y = layer.weight[edge] * (layer.base_weight[a] * base[at] + basis[at] @ layer.coef[a])
            out[(slice(None), q, *where)] += y * valid[at]
    return out if layer.bias is None else out + layer.bias.view(1, -1, *[1] * dims)


def same_padding(layer, size):
    if layer.padding == "valid":
        return [0] * len(size)
    if layer.padding == "same":  # as TensorFlow states it
        options = zip(size, layer.kernel_size, layer.stride, layer.dilation, strict=True)
        totals = [max((math.ceil(n / s) - 1) * s + (k - 1) * d + 1 - n, 0) for n, k, s, d in options]
        return [(t // 2, t - t // 2) for t in totals]
    return list(layer.padding)


OPTIONS = [
    {"kernel_size": 3, "padding": 1},
    {"kernel_size": 2, "padding": "same", "groups": 2},
    {"kernel_size": 3, "stride": 2, "padding": 2, "dilation": 2, "bias": False},
    {"kernel_size": 3, "padding": 1, "padding_mode": "reflect", "groups": 4},
    {"kernel_size": 2, "padding": "same", "padding_mode": "circular"},
    {"kernel_size": 3, "padding": "valid"},
]


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")
@pytest.mark.parametrize("dims", [1, 2, 3])
@pytest.mark.parametrize("sharing", SHARINGS)
@pytest.mark.parametrize("options", OPTIONS, ids=str)
@torch.no_grad()
def test_conv_is_the_double_loop(dims, sharing, options):
    ours, theirs = CONVS[dims]
    layer = randomise(ours(4, 4, spline=Spline(sharing=sharing, base="tanh"), **options).double())
    x = 2 * torch.randn(2, 4, *[5, 4, 3][:dims], dtype=torch.float64)
    if dims == 3 and options["padding"] == 2:
        x = torch.cat([x, x], 4)
    out = layer(x)
    assert out.shape == theirs(4, 4, **options).double()(x).shape
    torch.testing.assert_close(out, naive_conv(layer, x, dims))


@pytest.mark.parametrize("sharing", SHARINGS)
@pytest.mark.parametrize("size", [(7, 8), (8, 5)])
@pytest.mark.parametrize(
    "options",
    [
        {"kernel_size": 3, "stride": 2, "padding": "same", "groups": 2},
        {"kernel_size": 2, "stride": (1, 3), "padding": "same", "dilation": 2},
        {"kernel_size": 1, "stride": 3, "padding": "same"},
        {"kernel_size": 3, "stride": 2, "padding": ((0, 1), 2)},
    ],
    ids=str,
)
def test_padding_by_size_and_by_other_widths_before_than_after(options, size, sharing):
    layer = randomise(KAConv2d(4, 4, spline=Spline(sharing=sharing), **options).double())
    x = torch.randn(2, 4, *size, dtype=torch.float64, requires_grad=True)
    out, wanted = layer(x), naive_conv(layer, x, 2)
    torch.testing.assert_close(out, wanted)
    if layer.padding == "same":
        assert out.shape[2:] == tuple(math.ceil(n / s) for n, s in zip(size, layer.stride, strict=True))
    leaves = [x, *layer.parameters()]
    for mine, theirs in zip(*(torch.autograd.grad(y.square().sum(), leaves) for y in (out, wanted)), strict=True):
        torch.testing.assert_close(mine, theirs)


def test_zero_padding_comes_after_the_activation():
    layer = randomise(KAConv2d(1, 1, 3, padding=1))
    x = torch.randn(1, 1, 4, 4)
    inner = copy.deepcopy(layer)
    inner.padding = (0, 0)
    before = inner(nn.functional.pad(x, [1] * 4))
    assert not torch.allclose(layer(x), before)
    torch.testing.assert_close(layer(x)[..., 1:-1, 1:-1], before[..., 1:-1, 1:-1])


@pytest.mark.parametrize(("ours", "theirs"), [(KALinear, nn.Linear), *CONVS.values()])
def test_signatures_start_like_torchs(ours, theirs):
    wanted = [n for n in inspect.signature(theirs.__init__).parameters if n not in ("self", "device", "dtype")]
    args = (4, 6) if ours is KALinear else (4, 6, 3, 2, 1, 1, 2, False, "reflect")
    mine, other = ours(*args), theirs(*args)
    assert len(args) <= len(wanted)
    x = torch.randn(2, 4, *([] if ours is KALinear else [9] * mine.spatial_dims))
    assert mine(x).shape == other(x).shape
    for name in set(wanted) - {"padding_mode"}:
        assert hasattr(mine, name), name
        if name not in ("bias", "padding"):
            assert getattr(mine, name) == getattr(other, name), name


@pytest.mark.parametrize(
    ("sharing", "expected"),
    [
        ("layer", 4 * 6 * 9 + 9),
        ("input", 4 * 6 * 9 + 4 * 9),
        (2, 4 * 6 * 9 + 2 * 9),
        ("output", 4 * 6 * 9 + 6 * 9),
        ("edge", 4 * 6 * 9 * 10),
    ],
)
def test_parameters_are_those_of_the_formula(sharing, expected):
    """n_in n_out + A (M + 1) for shared activations, n_in n_out (M + 2) for the ordinary KAN; DESIGN section 2."""
    assert parameter_count(KAConv2d(4, 6, 3, bias=False, spline=Spline(sharing=sharing))) == expected


@pytest.mark.parametrize(
    "change",
    [
        {"grid_size": 8},
        {"spline_order": 2},
        {"grid_range": (-1, 1)},
        {"sharing": "output"},
        {"base": "tanh"},
        {"input_grad": "free"},
    ],
    ids=str,
)
def test_every_option_changes_something(change):
    def run(spline):
        torch.manual_seed(0)
        layer = KALinear(4, 4, spline=spline)
        with torch.no_grad():
            layer.coef += torch.linspace(0, 1, layer.coef.numel()).view_as(layer.coef)
        x = torch.randn(8, 4, requires_grad=True, generator=torch.Generator().manual_seed(1))
        out = layer(x)
        return out.detach(), torch.autograd.grad(out.sum(), x)[0]

    pairs = zip(run(Spline()), run(Spline(**change)), strict=True)
    assert any(not torch.allclose(a, b) for a, b in pairs)


def test_implementations_agree_within_a_layer():
    x = torch.randn(2, 4, 6, 6)
    outs = []
    for impl in ("auto", "eager", "native", "reference"):
        torch.manual_seed(0)
        outs.append(randomise(KAConv2d(4, 4, 3, padding=1, spline=Spline(sharing=2, impl=impl)))(x))
    for out in outs[1:]:
        torch.testing.assert_close(out, outs[0], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("sharing", SHARINGS)
def test_all_sharings_start_as_the_same_function(sharing):
    torch.manual_seed(3)
    first = KAConv2d(4, 4, 3)
    torch.manual_seed(3)
    other = KAConv2d(4, 4, 3, spline=Spline(sharing=sharing))
    x = torch.randn(2, 4, 5, 5)
    torch.testing.assert_close(first(x), other(x), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("input_grad", ["exact", "free"])
def test_saved_bytes_are_those_of_silu_and_convolution(input_grad):
    x = torch.randn(2, 64, 64, 64, requires_grad=True)
    ka = KAConv2d(64, 64, 3, padding=1, spline=Spline(input_grad=input_grad))
    twin = nn.Sequential(nn.SiLU(), nn.Conv2d(64, 64, 3, padding=1))
    assert saved_bytes(lambda: ka(x), ka) <= 1.1 * saved_bytes(lambda: twin(x), twin)


@pytest.mark.parametrize("input_grad", ["exact", "free"])
@pytest.mark.parametrize("kind", ["linear", "conv"])
def test_variance_survives_fifty_layers(kind, input_grad):
    """Geometric means over three networks: of one, finite width alone moves the variance of the gradient by a factor of 2."""
    spline, logs = Spline(input_grad=input_grad), []
    for seed in range(3):
        torch.manual_seed(seed)
        if kind == "linear":
            x, layers = torch.randn(512, 256), [KALinear(256, 256, bias=False, spline=spline) for _ in range(50)]
        else:
            options = {"padding": 1, "padding_mode": "circular", "bias": False, "spline": spline}
            x, layers = torch.randn(2, 64, 12, 12), [KAConv2d(64, 64, 3, **options) for _ in range(50)]
        out = nn.Sequential(*layers)(x.requires_grad_())
        g = torch.randn_like(out)
        (grad,) = torch.autograd.grad(out, x, g)
        logs.append(torch.stack([out.detach().var(), grad.var() / g.var()]).log())
    forward, backward = torch.stack(logs).mean(0).exp().tolist()
    assert 0.5 < forward < 2
    assert 0.4 < backward < 2.5


@pytest.mark.parametrize("sharing", SHARINGS)
def test_every_parameter_learns_and_survives_moving(sharing):
    layer = KAConv2d(4, 4, 3, spline=Spline(sharing=sharing))
    layer(torch.randn(2, 4, 6, 6)).square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() and p.grad.any() for p in layer.parameters())
    x = torch.randn(1, 4, 6, 6)
    twin = KAConv2d(4, 4, 3, spline=Spline(sharing=sharing))
    twin.load_state_dict(layer.state_dict())
    assert torch.equal(twin(x), layer(x))
    assert torch.equal(copy.deepcopy(layer)(x), layer(x))
    assert layer.double()(x.double()).dtype == torch.float64
    assert KAConv2d(4, 4, 3, spline=Spline(sharing=sharing), device="meta").weight.is_meta


@pytest.mark.parametrize("sharing", SHARINGS)
def test_layers_work_under_bf16_autocast(sharing):
    layer = KAConv2d(4, 4, 3, spline=Spline(sharing=sharing))
    x = torch.randn(2, 4, 6, 6, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16):
        out = layer(x)
    assert out.dtype == torch.bfloat16
    out.float().sum().backward()
    assert x.grad.isfinite().all()
    torch.testing.assert_close(out.float(), layer(x), rtol=0.05, atol=0.1)


def test_activation_curves_are_the_activations():
    layer = randomise(KALinear(1, 2, bias=False, spline=Spline(sharing=2)))
    with torch.no_grad():
        layer.weight.fill_(1)
    t, curves = layer.activation_curves(11)
    torch.testing.assert_close(curves.T, layer(t.view(-1, 1)).detach())


@pytest.mark.parametrize("sharing", SHARINGS)
def test_a_metatensor_of_monai_keeps_its_metadata_and_its_gradient(sharing):
    from monai.data import MetaTensor

    layer, plain = randomise(KAConv2d(2, 4, 3, spline=Spline(sharing=sharing))), torch.randn(2, 2, 6, 6, requires_grad=True)
    affine = torch.diag(torch.tensor([2.0, 3.0, 1.0, 1.0], dtype=torch.float64))
    x = MetaTensor(plain.detach(), affine=affine).requires_grad_()
    out = layer(x)
    assert isinstance(out, MetaTensor)
    assert torch.equal(out.affine, affine)
    assert torch.equal(out.as_tensor(), layer(plain))
    for tensor in (x, plain):
        layer(tensor).sum().backward()
    assert torch.equal(x.grad.as_subclass(torch.Tensor), plain.grad)


@pytest.mark.parametrize(
    ("make", "word"),
    [
        (lambda: KAConv2d(4, 4, 3, groups=3), "groups=3"),
        (lambda: KAConv2d(4, 4, 3, padding="around"), "padding 'around'"),
        (lambda: KAConv2d(4, 4, 3, padding_mode="mirror"), "padding_mode 'mirror'"),
        (lambda: KAConv2d(4, 4, (3, 3, 3)), "kernel_size"),
        (lambda: KAConv2d(4, 4, 3, stride=2, padding="same", padding_mode="reflect"), "pads with zeros"),
        (lambda: KAConv2d(4, 4, 3, padding=((0, 1, 2), 1)), "one number or 2"),
        (lambda: KALinear(4, 4, spline=Spline(sharing=3)), "sharing=3"),
        (lambda: Spline(sharing="all"), "sharing 'all'"),
        (lambda: Spline(sharing=0), "sharing must be .* a whole number of at least 1 and at most 65536, got 0"),
        (lambda: Spline(grid_size=0), "grid"),
        (lambda: Spline(base="selu"), "selu"),
        (lambda: SplineActivation(Spline(sharing="output")), "sharing"),
        (lambda: KAConv2d(4, 4, 3)(torch.zeros(1, 3, 8, 8)), "expects"),
        (lambda: KAConv2d(4, 4, 3)(torch.zeros(1, 4, 8)), "expects"),
        (lambda: KALinear(4, 4)(torch.zeros(1, 3)), "4"),
    ],
)
def test_wrong_use_is_told_in_one_sentence(make, word):
    with pytest.raises(ValueError, match=word) as caught:
        make()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("sharing", ["layer", "input", 2, "output", "edge"])
def test_assigned_options_are_those_that_count(sharing):
    plain = Spline(sharing=sharing, base="silu")
    layer, x = KAConv2d(2, 4, 3, spline=plain), torch.randn(2, 2, 5, 5)
    before = layer(x)
    layer.spline = replace(plain, base="tanh", grid_range=(-2.0, 2.0))
    fresh = KAConv2d(2, 4, 3, spline=layer.spline)
    fresh.load_state_dict(layer.state_dict())
    assert not torch.allclose(layer(x), before)
    assert torch.equal(layer(x), fresh(x))
    assert "base='tanh'" in repr(layer)
    with pytest.raises(ValueError, match=r"8 coefficients cannot become one of .* with 9: build a new layer"):
        layer.spline = replace(plain, grid_size=6)
    assert torch.equal(layer(x), fresh(x))
