"""The directly stacked KAN is the function of ``sharing="edge"``, with the cost of the ordinary implementation."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from allukan.costs import parameter_count, saved_bytes
from allukan.nn import KAConv1d, KAConv2d, KAConv3d, KALinear, Spline, StackedKANConv1d, StackedKANConv2d, StackedKANConv3d
from allukan.nn.stacked import StackedKANLinear, unfold

EDGE = Spline(sharing="edge")
PAIRS = {1: (StackedKANConv1d, KAConv1d), 2: (StackedKANConv2d, KAConv2d), 3: (StackedKANConv3d, KAConv3d)}
OPTIONS = [
    {"kernel_size": 3, "padding": 1},
    {"kernel_size": 3, "padding": 1, "groups": 4},
    {"kernel_size": 3, "stride": 2, "padding": 2, "dilation": 2, "groups": 2, "bias": False},
    {"kernel_size": 2, "padding": "same"},
    {"kernel_size": 3, "padding": 1, "padding_mode": "reflect"},
    {"kernel_size": 3, "padding": "valid"},
    {"kernel_size": 1},
]


def same_parameters(stacked, fast):
    with torch.no_grad():
        for parameter in fast.parameters():
            parameter.normal_()
    stacked.load_state_dict(fast.state_dict())
    return stacked, fast


def outputs_and_gradients(layer, x):
    x = x.clone().requires_grad_()
    y = layer(x)
    weights = torch.linspace(-1, 1, y.numel(), dtype=y.dtype).view_as(y)
    return y.detach(), *torch.autograd.grad((weights * y).sum(), [x, *layer.parameters()])


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")
@pytest.mark.parametrize("input_grad", ["exact", "free"])
@pytest.mark.parametrize("dims", [1, 2, 3])
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_convolution_and_its_gradients_are_those_of_edge(dims, options, input_grad):
    stacked, fast = PAIRS[dims]
    spline = Spline(sharing="edge", input_grad=input_grad, base="identity", grid_range=(-1.5, 2.0))
    pair = same_parameters(*(make(4, 8, spline=spline, dtype=torch.float64, **options) for make in (stacked, fast)))
    x = 2 * torch.randn(2, 4, *[7, 6, 5][:dims], dtype=torch.float64)
    for ours, theirs in zip(*(outputs_and_gradients(layer, x) for layer in pair), strict=True):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("input_grad", ["exact", "free"])
def test_linear_and_its_gradients_are_those_of_edge(input_grad):
    spline = Spline(sharing="edge", input_grad=input_grad)
    pair = same_parameters(*(make(5, 3, spline=spline, dtype=torch.float64) for make in (StackedKANLinear, KALinear)))
    x = 2 * torch.randn(2, 3, 5, dtype=torch.float64)
    for ours, theirs in zip(*(outputs_and_gradients(layer, x) for layer in pair), strict=True):
        torch.testing.assert_close(ours, theirs)


def test_unfolded_windows_are_torchs():
    x = torch.randn(2, 6, 9, 8)
    ours, sizes = unfold(x, (3, 2), (2, 1), (1, 3))
    theirs = F.unfold(x, (3, 2), dilation=(1, 3), stride=(2, 1)).transpose(1, 2)
    assert torch.equal(ours.view(theirs.shape), theirs)
    assert sizes == (4, 5)


def test_it_costs_what_an_efficient_kan_costs():
    """As measured of efficient-kan: 72 floats of the recursion for every value of a window, the value and its SiLU."""
    layer = StackedKANConv2d(64, 64, 3, padding=1, bias=False, spline=EDGE, device="meta")
    x = torch.randn(2, 64, 64, 64, device="meta", requires_grad=True)
    assert parameter_count(layer) == 10 * 64 * 64 * 9
    assert saved_bytes(lambda: layer(x), layer) / 2**20 == pytest.approx(1333, rel=0.01)
    linear = StackedKANLinear(256, 256, bias=False, device="meta")
    rows = torch.randn(4096, 256, device="meta", requires_grad=True)
    assert saved_bytes(lambda: linear(rows), linear) / 2**20 == pytest.approx(298, rel=0.01)


def test_grad_free_keeps_the_basis_only():
    x = torch.randn(1, 8, 16, 16, requires_grad=True)
    exact, free = (
        StackedKANConv2d(8, 8, 3, padding=1, spline=Spline(sharing="edge", input_grad=kind)) for kind in ("exact", "free")
    )
    assert saved_bytes(lambda: free(x), free) < 0.2 * saved_bytes(lambda: exact(x), exact)


def test_bf16_autocast_and_channels_last():
    layer = StackedKANConv2d(4, 4, 3, padding=1)
    x = torch.randn(2, 4, 6, 6).to(memory_format=torch.channels_last)
    with torch.autocast("cpu", torch.bfloat16):
        out = layer(x)
    assert out.dtype == torch.bfloat16
    torch.testing.assert_close(out.float(), layer(x), rtol=0.05, atol=0.1)


@pytest.mark.parametrize(
    ("make", "word"),
    [
        (lambda: StackedKANConv2d(4, 4, 3, spline=Spline()), "sharing must be 'edge', got 'layer'"),
        (lambda: StackedKANLinear(4, 4, spline=Spline(sharing=2)), "sharing must be 'edge', got 2"),
        (lambda: StackedKANConv2d(4, 4, 3)(torch.zeros(1, 3, 8, 8)), "StackedKANConv2d expects"),
        (lambda: StackedKANLinear(4, 4)(torch.zeros(1, 3)), "StackedKANLinear expects"),
    ],
)
def test_wrong_use_is_told_in_one_sentence(make, word):
    with pytest.raises(ValueError, match=word):
        make()


def test_it_stacks_into_a_network_of_modules():
    net = nn.Sequential(StackedKANConv2d(1, 4, 3), StackedKANConv2d(4, 2, 1))
    net(torch.randn(2, 1, 8, 8)).square().mean().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())
