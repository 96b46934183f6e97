"""Norms that move into the layers behind them: units where nothing else is concerned, and no others."""

import copy

import pytest
import torch
from torch import nn

from allukan import convert
from allukan.costs import saved_bytes
from allukan.nn import KAConv2d, KALinear
from allukan.nn.conversion.units import fits


class PreActivation(nn.Module):
    """A block of a pre-activation ResNet (arXiv 1603.05027): the shortcut starts at the input, or behind the first activation."""

    def __init__(self, channels, out, norm, act):
        super().__init__()
        self.norm1, self.norm2, self.act = norm(channels), norm(out), act()
        self.conv1, self.conv2 = nn.Conv2d(channels, out, 3, padding=1), nn.Conv2d(out, out, 3, padding=1)
        self.shortcut = nn.Conv2d(channels, out, 1) if out != channels else None

    def forward(self, x):
        h = self.act(self.norm1(x))
        side = x if self.shortcut is None else self.shortcut(h)
        return side + self.conv2(self.act(self.norm2(self.conv1(h))))


NORMS = {
    "batch": nn.BatchNorm2d,
    "cumulative": lambda c: nn.BatchNorm2d(c, momentum=None),
    "untracked": lambda c: nn.BatchNorm2d(c, track_running_stats=False),
    "instance": lambda c: nn.InstanceNorm2d(c, affine=True),
    "group": lambda c: nn.GroupNorm(2, c),
}


def trained(network, *shape):
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.mul_(1 + 0.2 * torch.randn_like(parameter)).add_(0.05 * torch.randn_like(parameter))
        network.train()(torch.randn(shape))
    return network


def segmenter(norm=nn.BatchNorm2d, act=nn.ReLU):
    """Convolution, norm and activation in turn, a stride, and up again."""

    def stage(a, b, stride=1):
        return [nn.Conv2d(a, b, 3, stride, 1), norm(b), act()]

    layers = [*stage(1, 4), *stage(4, 8, 2), *stage(8, 8), nn.Upsample(scale_factor=2), *stage(8, 4), nn.Conv2d(4, 2, 1)]
    return nn.Sequential(*layers)


def compare(network, converted, conversion, x):
    """Outputs, every gradient, and what the norms keep, in both modes."""
    moved = {norm: f"{layer}.norm" for layer, norm in conversion.units.items()}
    for training in (True, False):
        given = [x.clone().requires_grad_() for _ in range(2)]
        for each, mine in zip((network, converted), given, strict=True):
            each.zero_grad(), each.train(training)
            y = each(mine)
            y.mul(torch.linspace(-1, 1, y.numel()).view(y.shape)).sum().backward()
        with torch.no_grad():
            theirs, ours = network.eval()(x), converted.eval()(x)
        assert (ours - theirs).abs().max() <= 1e-5 * theirs.abs().max()
        assert (given[0].grad - given[1].grad).norm() <= 1e-4 * given[0].grad.norm()
        largest = max(parameter.grad.norm() for parameter in network.parameters())  # that of a bias before a norm is 0
        for name, module in network.named_modules():
            other = converted.get_submodule(moved.get(name, name))
            for key, parameter in module.named_parameters(recurse=False):
                grad = other.get_parameter(key).grad
                assert (grad - parameter.grad).norm() <= 1e-4 * parameter.grad.norm() + 1e-5 * largest, (name, key)
            for key, buffer in module.named_buffers(recurse=False):
                torch.testing.assert_close(other.get_buffer(key), buffer, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("act", [nn.ReLU, nn.SiLU, lambda: nn.LeakyReLU(0.1, inplace=True)], ids=["relu", "silu", "in place"])
@pytest.mark.parametrize("norm", NORMS)
def test_a_chain_of_convolution_norm_and_activation_becomes_units(norm, act):
    network, x = trained(segmenter(NORMS[norm], act), 2, 1, 16, 16), torch.randn(2, 1, 16, 16)
    converted, conversion = convert(network, x)
    assert conversion.units == {"3": "1", "6": "4", "13": "11"}  # the last but one stands behind a resizing
    assert all(isinstance(converted[int(i)], KAConv2d) for i in conversion.units)
    assert all(isinstance(converted[int(i)], nn.Identity) for i in conversion.units.values())
    compare(network, converted, conversion, x)


@pytest.mark.parametrize("norm", NORMS)
def test_a_block_before_activation_becomes_units_where_one_layer_reads(norm):
    network = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), *[PreActivation(*c, NORMS[norm], nn.ReLU) for c in ((4, 4), (4, 8))])
    x = torch.randn(2, 1, 8, 8)
    converted, conversion = convert(trained(network, *x.shape), x)
    assert conversion.units == {"1.conv1": "1.norm1", "1.conv2": "1.norm2", "2.conv2": "2.norm2"}  # two read 2.norm1
    assert "3 of them units, normalise → φ → mix, with the norm:" in str(conversion)
    compare(network, converted, conversion, x)


def test_it_saves_the_memory_of_the_norm_and_the_activation():
    network, x = segmenter(), torch.randn(2, 1, 64, 64)
    units, apart = convert(network, x)[0], convert(network, x, take_norms=False)[0]
    kept = [saved_bytes(lambda n=n: n(x), n) for n in (network, apart, units)]
    assert kept[2] < 0.75 * min(kept[:2])


@pytest.mark.parametrize(("make", "units"), [("BasicUNet", 10), ("UNet", 3), ("SegResNet", 25)])
def test_networks_of_monai(make, units):
    nets = pytest.importorskip("monai.networks.nets")
    options = {"channels": (8, 16, 32), "strides": (2, 2), "num_res_units": 2} if make == "UNet" else {}
    network, x = getattr(nets, make)(spatial_dims=2, in_channels=1, out_channels=2, **options), torch.randn(2, 1, 32, 32)
    converted, conversion = convert(network, x)
    assert len(conversion.units) == units
    apart = convert(network, x, take_norms=False)[0]
    assert saved_bytes(lambda: converted(x), converted) < saved_bytes(lambda: apart(x), apart)


def test_norms_stay_where_they_are_told_to():
    network, x = segmenter(), torch.randn(2, 1, 16, 16)
    converted, conversion = convert(network, x, take_norms=False)
    assert not conversion.units
    assert isinstance(converted[1], nn.BatchNorm2d)
    assert convert(network, x, keep=["1"])[1].units == {"6": "4", "13": "11"}


def test_a_frozen_norm_stays_frozen():
    network = trained(segmenter(), 2, 1, 16, 16)
    network[1].eval().weight.requires_grad_(False)
    converted, _ = convert(network, torch.randn(2, 1, 16, 16))
    assert converted[3].training
    assert not converted[3].norm.training
    assert not converted[3].norm.weight.requires_grad


def test_rows_of_a_transformer_are_units():
    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm, self.up, self.act, self.down = nn.LayerNorm(8), nn.Linear(8, 16), nn.GELU(), nn.Linear(16, 8)

        def forward(self, x):
            return x + self.down(self.act(self.up(self.norm(x))))

    network, x = trained(Block(), 2, 5, 8), torch.randn(2, 5, 8)
    converted, conversion = convert(network, x)
    assert conversion.units == {"up": "norm"}
    assert isinstance(converted.up, KALinear)
    compare(network, converted, conversion, x)


class Wired(nn.Module):
    def __init__(self, wire):
        super().__init__()
        self.norm, self.act = nn.BatchNorm2d(2), nn.ReLU()
        self.first, self.second, self.wire = nn.Conv2d(2, 2, 1), nn.Conv2d(2, 2, 1), wire

    def forward(self, x):
        return self.wire(self, self.first(x))


def changed(net, x):
    y = net.second(net.act(net.norm(x)))
    return y + x.mul_(2)


def changed_between(net, x):
    h = net.norm(x)
    x.zero_()
    return net.second(net.act(h))


CASES = {
    "the skip": lambda net, x: net.second(net.act(h := net.norm(x))) + h,
    "an activation that stays": lambda net, x: net.second(h := net.act(net.norm(x))) + h,
    "the output": lambda net, x: (net.second(net.act(h := net.norm(x))), h),
    "two layers": lambda net, x: net.second(h := net.act(net.norm(x))) + net.first(h),
    "a layer that reads other things": lambda net, x: net.second(net.act(net.norm(x))) + net.second(x),
    "a norm of two layers": lambda net, x: net.second(net.act(net.norm(x))) + net.first(net.act(net.norm(2 * x))),
    "a resizing": lambda net, x: net.second(net.act(nn.functional.avg_pool2d(net.norm(x), 2))),
    "an input that is changed later": changed,
    "an input that is changed before the layer": changed_between,
}


@pytest.mark.parametrize("case", CASES)
def test_a_norm_that_concerns_others_stays(case):
    network, x = trained(Wired(CASES[case]), 2, 2, 6, 6), torch.randn(2, 2, 6, 6)
    converted, conversion = convert(network, x)
    assert not conversion.units
    for training in (False, True):
        mine, theirs = (net.train(training)(x) for net in (copy.deepcopy(converted), copy.deepcopy(network)))
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-5)


def hooked(norm):
    norm.register_forward_hook(lambda *_: None)
    return norm


@pytest.mark.parametrize(
    ("norm", "layer", "dims"),
    [
        (hooked(nn.BatchNorm2d(4)), nn.Conv2d(4, 4, 1), 4),
        (nn.InstanceNorm2d(4, track_running_stats=True), nn.Conv2d(4, 4, 1), 4),
        (nn.LayerNorm(4), nn.Conv2d(4, 4, 1), 4),
        (nn.LayerNorm((3, 4)), nn.Linear(4, 4), 3),
        (nn.BatchNorm1d(4), nn.Linear(4, 4), 3),
        (nn.GroupNorm(2, 4), nn.Linear(4, 4), 3),
        (nn.GroupNorm(2, 4), nn.Linear(2, 4), 2),
    ],
)
def test_norms_that_do_something_else_do_not_fit(norm, layer, dims):
    assert not fits(norm, layer, dims)
    assert fits(nn.LayerNorm(layer.in_features) if isinstance(layer, nn.Linear) else nn.BatchNorm2d(4), layer, dims)
