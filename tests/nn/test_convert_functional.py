"""Activations that a network calls as functions: recorded by torch.fx where that holds always, left alone elsewhere."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from allukan.nn import KALayer, convert


class Block(nn.Module):
    """A layer, ``act(net, y)`` and another layer."""

    def __init__(self, act, dim=2):
        super().__init__()
        self.first, self.second, self.norm = nn.Conv2d(dim, 4, 3, padding=1), nn.Conv2d(4, 2, 1), nn.BatchNorm2d(4)
        self.act = act

    def forward(self, x):
        return self.second(self.act(self, self.norm(self.first(x))))


FUNCTIONS = {
    "relu": lambda net, y: F.relu(y),
    "relu in place": lambda net, y: F.relu(y, inplace=True),
    "torch.relu": lambda net, y: torch.relu(y),
    "Tensor.relu": lambda net, y: y.relu(),
    "Tensor.tanh": lambda net, y: y.tanh(),
    "relu6": lambda net, y: F.relu6(y),
    "leaky_relu:0.2": lambda net, y: F.leaky_relu(y, 0.2),
    "silu": lambda net, y: F.silu(input=y),
    "gelu": lambda net, y: F.gelu(y),
    "elu": lambda net, y: F.elu(y),
    "hardswish": lambda net, y: F.hardswish(y),
    "hardtanh": lambda net, y: F.hardtanh(y),
    "mish": lambda net, y: F.mish(y),
    "softplus": lambda net, y: F.softplus(y),
    "sigmoid": lambda net, y: torch.sigmoid(y),
}


def same(network, converted, x):
    for training in (False, True):
        ours, theirs = (each.train(training)(x.clone()) for each in (converted, network))
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("case", FUNCTIONS)
def test_a_function_becomes_the_base_of_the_layer_behind_it(case):
    network, x = Block(FUNCTIONS[case]), torch.randn(2, 2, 8, 8)
    converted, conversion = convert(network, x)
    base = case.removeprefix("torch.").removeprefix("Tensor.").removesuffix(" in place")
    assert conversion.layers == {"first": "identity", "second": base}
    assert conversion.units == {"second": "norm"}
    assert not conversion.kept
    assert isinstance(converted, Block)
    assert not hasattr(network, f"{base.partition(':')[0]}_0")
    same(network, converted, x)


class Residual(nn.Module):
    """As torchvision writes it: the second activation is read by the next block's layer and by its sum."""

    def __init__(self):
        super().__init__()
        self.conv1, self.conv2 = (nn.Conv2d(4, 4, 3, padding=1) for _ in range(2))

    def forward(self, x):
        return F.relu(self.conv2(F.relu(self.conv1(x))) + x)


def test_every_call_is_looked_at_by_itself_in_nested_modules():
    network, x = nn.Sequential(nn.Conv2d(2, 4, 1), Residual(), Residual()), torch.randn(1, 2, 8, 8)
    converted, conversion = convert(network, x)
    assert conversion.absorbed == {"1.relu_0": "relu", "2.relu_0": "relu"}
    assert set(conversion.kept) == {"1.relu_1", "2.relu_1"}
    assert conversion.layers["1.conv2"] == conversion.layers["2.conv2"] == "relu"
    assert type(network[1]) is Residual
    assert sum(isinstance(module, KALayer) for module in converted.modules()) == 5
    same(network, converted, x)


def both_ways(net, y):
    return F.relu(y) if net.training else F.silu(y)


def by_value(net, y):
    return F.relu(y) if y.sum() > -1e9 else y


def by_chance(net, y):
    return F.relu(y) * (1 + 0 * torch.rand(1))


LEFT = {
    "mode": both_ways,
    "value": by_value,
    "constant": by_chance,
    "dropout": lambda n, y: F.dropout(F.relu(y), 0.5, n.training),
}


@pytest.mark.parametrize("case", LEFT)
def test_code_that_one_record_does_not_hold_for_is_left_and_named(case):
    network, x = Block(LEFT[case]), torch.randn(2, 2, 8, 8)
    converted, conversion = convert(network, x)
    assert conversion.kept["the function relu in the network"] == "a call in code that torch.fx cannot record"
    assert conversion.layers["second"] == "identity"
    assert type(converted) is Block
    torch.testing.assert_close(converted.eval()(x), network.eval()(x), rtol=1e-5, atol=1e-5)


def test_a_part_that_is_to_be_kept_is_not_recorded():
    network = nn.Sequential(Block(FUNCTIONS["relu"]), nn.Conv2d(2, 2, 1))
    converted, conversion = convert(network, torch.randn(2, 2, 8, 8), keep=["0"])
    assert type(converted[0]) is Block
    assert "the function relu in '0'" in conversion.kept


class Keeping(nn.Module):
    """Keeps what a loss reads later: a tensor, a log, or the activation itself."""

    def __init__(self, how):
        super().__init__()
        self.first, self.act, self.second = nn.Conv2d(2, 4, 1), nn.ReLU(), nn.Conv2d(4, 3, 1)
        self.how, self.kept, self.log = how, None, []

    def forward(self, x):
        h = self.first(x)
        h = self.act(h) if self.how == "module" else F.relu(h)
        if self.how == "log":
            self.log.append(1)
        else:
            self.kept = h if self.how == "module" else h.square().mean()
        return self.second(h)


@pytest.mark.parametrize("how", ["tensor", "log", "module"])
def test_what_a_network_keeps_on_itself_is_as_it_was(how):
    torch.manual_seed(0)
    network, x = Keeping(how), torch.randn(2, 2, 8, 8)
    converted, _ = convert(network, x)
    before = len(network.log)
    for each in (network, converted):
        each.log.clear()
        same(network, converted, x)
        each(x + 1)
    if how == "log":
        assert (before, len(converted.log), len(network.log)) == (before, len(converted.log), len(network.log))
        assert len(converted.log) > 0
    else:
        network(x + 1), converted(x + 1)
        torch.testing.assert_close(converted.kept, network.kept)
        assert converted.kept.requires_grad


class Optional(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Conv2d(2, 2, 1), nn.Conv2d(2, 3, 1)

    def forward(self, x, skip=None):
        if skip is not None:
            x = x + skip
        return self.second(F.relu(self.first(x)))


def test_an_argument_with_a_default_may_be_left_out():
    network, x = Optional(), torch.randn(2, 2, 8, 8)
    converted, _ = convert(network, x)
    same(network, converted, x)
    torch.testing.assert_close(converted(x, x), network(x, x))


def test_layers_of_a_frozen_network_stay_frozen():
    network = nn.Sequential(nn.Conv2d(2, 4, 1), nn.ReLU(), nn.Conv2d(4, 3, 1))
    network[0].requires_grad_(False)
    converted, _ = convert(network, torch.randn(2, 2, 8, 8))
    assert [all(p.requires_grad == (name[0] != "0") for name, p in converted.named_parameters())] == [True]
