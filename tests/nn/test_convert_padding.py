"""Convolutions that pad as TensorFlow does, by a class of their own or by a module in front, become layers with that padding."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from allukan.nn import KAConv2d, convert


def tensorflow(x, conv):
    """As TensorFlow states it."""
    options = zip(x.shape[2:], conv.kernel_size, conv.stride, conv.dilation, strict=True)
    totals = [max((math.ceil(n / s) - 1) * s + (k - 1) * d + 1 - n, 0) for n, k, s, d in options]
    return F.pad(x, [width for t in reversed(totals) for width in (t // 2, t - t // 2)])


class Same(nn.Conv2d):
    def forward(self, x):
        return F.conv2d(tensorflow(x, self), self.weight, self.bias, self.stride, 0, self.dilation, self.groups)


class Fixed(nn.Conv2d):
    def __init__(self, *args, widths, **options):
        super().__init__(*args, **options)
        self.static_padding = nn.ZeroPad2d(widths) if widths else nn.Identity()

    def forward(self, x):
        return F.conv2d(self.static_padding(x), self.weight, self.bias, self.stride, self.padding, self.dilation, self.groups)


def same_function(network, x, *others):
    converted, conversion = convert(network, x)
    for image in (x, *others):
        wanted = network(image)
        assert (converted(image) - wanted).abs().max() <= 1e-5 * wanted.abs().max()
    return converted, conversion


@pytest.mark.parametrize("options", [{"stride": 2}, {"stride": 1, "dilation": 2}, {"stride": (2, 3), "groups": 2}], ids=str)
@pytest.mark.parametrize("kernel", [1, 2, 3, 5])
def test_a_class_that_pads_by_the_size(kernel, options):
    network = nn.Sequential(nn.Conv2d(1, 4, 1), nn.SiLU(), Same(4, 6, kernel, **options)).eval()
    sizes = ((7, 8), (8, 9), (11, 5))
    converted, conversion = same_function(network, torch.randn(1, 1, 9, 10), *(torch.randn(2, 1, *size) for size in sizes))
    assert conversion.layers == {"0": "identity", "2": "silu"}
    assert (type(converted[2]), converted[2].padding) == (KAConv2d, "same")


@pytest.mark.parametrize("widths", [(0, 1, 0, 1), (2, 1, 0, 0), None], ids=str)
def test_a_class_that_pads_by_fixed_widths(widths):
    network = nn.Sequential(Fixed(1, 4, 3, stride=2, padding=1, widths=widths), nn.ReLU(), nn.Conv2d(4, 2, 1)).eval()
    converted, _ = same_function(network, torch.randn(1, 1, 9, 10), torch.randn(1, 1, 8, 7))
    left, right, top, bottom = widths or (0, 0, 0, 0)
    assert converted[0].padding == ((top + 1, bottom + 1), (left + 1, right + 1))


class Standardised(Same):
    def forward(self, x):
        weight = self.weight - self.weight.mean((1, 2, 3), keepdim=True)
        return F.conv2d(tensorflow(x, self), weight, self.bias, self.stride)


class Noisy(Same):
    def forward(self, x):
        return super().forward(x + torch.randn_like(x) if self.training else x)


class Once(Same):
    """Fixes its padding at the first image."""

    def forward(self, x):
        self.size = getattr(self, "size", x.shape)
        assert x.shape == self.size
        return super().forward(x)


@pytest.mark.parametrize("kind", [Standardised, Noisy, Once])
def test_a_class_that_does_something_else_stays(kind):
    network = nn.Sequential(kind(1, 4, 3, stride=2), nn.ReLU(), nn.Conv2d(4, 2, 1)).eval()
    converted, conversion = convert(network, torch.randn(1, 1, 9, 10))
    assert type(converted[0]) is kind
    assert conversion.left == {"0": f"there is no KA layer for {kind.__name__}"}


@pytest.mark.parametrize("act", [nn.SiLU(), nn.Sigmoid()], ids=str)
def test_a_padding_in_front_moves_behind_the_activation(act):
    network = nn.Sequential(
        nn.Conv2d(1, 4, 1), nn.BatchNorm2d(4), act, nn.ZeroPad2d((0, 1, 1, 2)), nn.Conv2d(4, 2, 3, 2, padding=1)
    )
    converted, conversion = same_function(network.eval(), torch.randn(2, 1, 9, 10))
    assert conversion.padded == {"4": "3"}
    assert conversion.units == {"4": "1"}
    layer = converted[4]
    assert layer.padding == ((2, 3), (1, 2))
    nn.init.normal_(layer.coef)  # φ(0) is no longer b(0), and the padding still 0
    h = converted[:4](torch.ones(2, 1, 4, 4))
    one = KAConv2d(4, 4, 1, bias=False, spline=layer.spline, norm=layer.norm)
    one.load_state_dict(layer.state_dict() | {"weight": torch.eye(4).view(4, 4, 1, 1)}, strict=False)
    wanted = F.conv2d(F.pad(one.eval()(h), (1, 2, 2, 3)), layer.weight, layer.bias, 2)
    torch.testing.assert_close(layer(h), wanted)


class Wired(nn.Module):
    def __init__(self, forward, pad):
        super().__init__()
        self.first, self.pad, self.conv, self.other, self.forward_ = (
            nn.Conv2d(1, 4, 1),
            pad,
            nn.Conv2d(4, 4, 3),
            nn.Conv2d(4, 4, 3),
            forward,
        )

    def forward(self, x):
        return self.forward_(self, self.first(x))


def alone(net, y):
    return net.conv(net.pad(y)) + net.other(y).mean()


def read_twice(net, y):
    y = net.pad(y)
    return net.conv(y) + net.other(y)


def without_padding_as_well(net, y):
    return net.conv(net.pad(y)).mean() + net.conv(y)


def changed_between(net, y):
    padded = net.pad(y)
    y.mul_(2)
    return net.conv(padded) + net.other(y).mean()


@pytest.mark.parametrize(
    ("forward", "pad"),
    [
        (read_twice, nn.ZeroPad2d(1)),
        (without_padding_as_well, nn.ZeroPad2d(1)),
        (changed_between, nn.ZeroPad2d(1)),
        (alone, nn.ConstantPad2d(1, 1.0)),
        (alone, nn.ZeroPad2d((-1, 1, 0, 0))),
    ],
    ids=["read twice", "also without", "changed between", "of ones", "of less"],
)
def test_a_padding_that_no_layer_can_have_stays(forward, pad):
    network = Wired(forward, pad).eval()
    converted, conversion = same_function(network, torch.randn(1, 1, 9, 10))
    assert conversion.padded == {}
    assert type(converted.pad) is type(pad)


def efficientnet():
    from monai.networks.nets.efficientnet import EfficientNet

    blocks = ["r1_k3_s11_e1_i32_o16_se0.25", "r1_k5_s22_e2_i16_o24_se0.25"]
    return EfficientNet(blocks, spatial_dims=2, in_channels=1, num_classes=3, image_size=65, norm="batch")


def test_an_efficientnet_of_monai():
    network = efficientnet()
    with torch.no_grad():
        network.train()(torch.randn(4, 1, 65, 65))
    converted, conversion = same_function(network.eval(), torch.randn(1, 1, 65, 97), torch.randn(2, 1, 64, 64))
    assert set(conversion.padded) == {"_conv_stem", "_blocks.0.0._depthwise_conv", "_blocks.1.1._depthwise_conv"}
    assert converted._conv_stem.padding == ((1, 1), (1, 1))
    assert conversion.left == {}
