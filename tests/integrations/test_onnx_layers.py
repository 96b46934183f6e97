"""KA layers with a table compute what they computed; no exporter runs here."""

from copy import deepcopy

import pytest
import torch
from torch import nn

from allukan.integrations.onnx_layers import TabulatedUnit, look_up, tabulated
from allukan.models import build_model
from allukan.nn import KAConv2d, KAConv3d, KALinear, Spline
from tests.integrations.conftest import SMALL, uneven

CONVOLUTIONS = [
    {"norm": "batch"},
    {"norm": "batch", "spline": Spline(grid_size=10, base="gelu")},
    {"norm": "group", "spline": Spline(sharing=2)},
    {"norm": nn.InstanceNorm2d(4)},  # no scale of its own for that of the table to go into
    {"norm": "layer", "padding_mode": "reflect"},
    {"spline": Spline(sharing="input")},
    {"spline": Spline(sharing="output")},
    {"spline": Spline(sharing="edge"), "groups": 2},
    {"stride": 2, "spline": Spline(spline_order=1, grid_size=6)},
]
LINEAR = [{"norm": "layer"}, {"norm": "batch"}, {}, {"spline": Spline(sharing=2)}, {"spline": Spline(sharing="output")}]


def same(layer, x, tolerance=1e-5):
    network, count, kept = tabulated(nn.Sequential(deepcopy(layer)))
    assert (count, kept) == (1, ())
    assert isinstance(network[0], TabulatedUnit)
    found, wanted = network(x), layer(x)
    assert found.dtype == wanted.dtype
    assert found.shape == wanted.shape
    assert (found - wanted).abs().max() < tolerance * wanted.abs().max()


@pytest.mark.parametrize("options", CONVOLUTIONS, ids=str)
@torch.no_grad()
def test_a_convolution(options):
    layer = uneven(KAConv2d(4, 8, 3, padding=1, **options).eval())
    same(layer, 3 * torch.randn(2, 4, 9, 8))


@pytest.mark.parametrize("options", LINEAR, ids=str)
@torch.no_grad()
def test_a_linear_layer(options):
    same(uneven(KALinear(4, 8, **options).eval()), 3 * torch.randn(2, 5, 4))


@torch.no_grad()
def test_three_dimensions():
    same(uneven(KAConv3d(2, 4, 3, norm="batch").eval()), torch.randn(1, 2, 5, 6, 7))


@torch.no_grad()
def test_half_precision_looks_up_in_single():
    layer = uneven(KAConv2d(4, 8, 3, norm="batch").eval()).half()
    same(layer, torch.randn(1, 4, 9, 8).half(), 2e-3)


@torch.no_grad()
def test_a_layer_by_itself_becomes_one_with_a_table():
    layer, x = KAConv2d(2, 3, 1), torch.randn(1, 2, 4, 4)
    assert torch.allclose(tabulated(deepcopy(layer))[0](x), layer(x), atol=1e-5)


@torch.no_grad()
def test_layers_without_a_table_keep_their_operators_and_are_named():
    network = nn.Sequential(KAConv2d(2, 3, 1, spline=Spline(basis="rbf")), KAConv2d(3, 3, 1))
    x = torch.randn(1, 2, 4, 4)
    found, count, kept = tabulated(deepcopy(network))
    assert (count, kept) == (2, ("0",))
    assert torch.allclose(found(x), network(x), atol=1e-5)


@pytest.mark.parametrize("name", ["allukan-tiny", "allukan-paper-tiny"])
@torch.no_grad()
def test_a_network(name):
    network = uneven(build_model(name, in_channels=1, out_channels=2, **SMALL).eval())
    x = torch.randn(2, 1, 33, 50)
    found, count, kept = tabulated(deepcopy(network))
    assert count > 10
    assert kept == ()
    assert (found(x) - network(x)).abs().max() < 3e-5 * network(x).abs().max()


def test_the_operator_is_one_that_torch_can_export():
    u, first = torch.randn(2, 1, 3) * 9, torch.tensor([0, 8]).view(2, 1)
    for tensor in (None, first):
        torch.library.opcheck(look_up, (u, torch.randn(16), torch.randn(16), tensor, 8))
