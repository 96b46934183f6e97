"""Activations replaced by the nearest fixed ones, and that measuring leaves a network as it was."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

from allukan.nn import KAConv2d, KAFork2d, KALinear, Spline, SplineActivation, StackedKANConv2d
from allukan.nn.bend import bend, nearest_base, network_bends
from allukan.nn.histogram import activation_inputs, collect_inputs, learned, watched_inputs
from allukan.nn.straight import ka_share, straightened
from allukan.ops.activations import base_function


def random_splines(network):
    for layer in learned(network).values():
        nn.init.normal_(layer.coef)
    return network


def network():
    parts = [KAConv2d(3, 6, 3, padding=1), KAConv2d(6, 4, 3, padding=1, norm="batch"), nn.Dropout(0.5), SplineActivation()]
    return random_splines(nn.Sequential(*parts))


@pytest.mark.parametrize("sharing", ["layer", "input", 2, "output", "edge"])
def test_a_straightened_layer_is_the_map_of_the_nearest_base_and_constant(sharing):
    """Inside the grid, without padding: y = Σ λ_q (a b(t) + c) + bias, a and c of each activation."""
    layer = random_splines(KAConv2d(3, 4, 1, spline=Spline(sharing=sharing)))
    x = torch.rand(2, 3, 9, 9) * 5.8 - 2.9
    histograms = collect_inputs(layer, [x])
    a, c = (t.float() for t in nearest_base(layer, histograms[""]))
    of_outputs, of_inputs = {"layer": (1, 1), "input": (1, 3), 2: (4, 1), "output": (4, 1), "edge": (4, 3)}[sharing]
    a, c = (t.repeat_interleave(2 if sharing == 2 else 1).view(of_outputs, of_inputs).expand(4, 3) for t in (a, c))
    scale = torch.ones(4, 3) if sharing == "edge" else layer.weight.detach().flatten(1)
    phi = a.view(1, 4, 3, 1, 1) * base_function("silu")(x).unsqueeze(1) + c.view(1, 4, 3, 1, 1)
    want = (scale.view(1, 4, 3, 1, 1) * phi).sum(2) + layer.bias.view(1, 4, 1, 1)
    with straightened(layer, histograms):
        assert torch.allclose(layer(x), want, atol=1e-4)
        assert bend(layer, histograms[""]) < 1e-3


@pytest.mark.parametrize(
    "make", [network, lambda: random_splines(KAFork2d(3, 4, 2, 1)), lambda: random_splines(StackedKANConv2d(3, 2, 3))]
)
def test_the_shares_are_scores_lost_and_the_network_is_as_before(make):
    net, x = make().eval(), torch.randn(2, 3, 8, 8)
    histograms, before = collect_inputs(net, [x]), copy.deepcopy(net.state_dict())

    def score(found):
        out = found(x)
        return float((out[0] if isinstance(out, tuple) else out).detach().square().mean())

    share = ka_share(net, histograms, score)
    assert all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())
    assert share.score == score(net)
    with straightened(net, histograms):
        assert share.total == share.score - score(net)
        assert max(network_bends(net, histograms).values()) < 0.05  # inputs beyond the grid see the constant fade
    for name in histograms:
        with straightened(net, histograms, [name]):
            assert share.layers[name] == share.score - score(net)
    assert ka_share(net, histograms, score, each=False).layers == {}


def test_what_fails_on_the_way_leaves_the_network_as_before():
    net = network()
    before = copy.deepcopy(net.state_dict())

    with pytest.raises(ZeroDivisionError), straightened(net, collect_inputs(net, [torch.randn(1, 3, 8, 8)])):
        raise ZeroDivisionError
    assert all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())


def test_layers_that_met_nothing_stay():
    net = nn.ModuleDict({"seen": random_splines(KALinear(3, 2)), "unseen": random_splines(KALinear(3, 2))})
    net.forward = lambda x: net["seen"](x)
    before = net["unseen"].coef.detach().clone()
    with straightened(net, collect_inputs(net, [torch.randn(9, 3)])):
        assert torch.equal(net["unseen"].coef, before)


def test_collecting_leaves_modes_statistics_hooks_and_random_numbers():
    net = network().train()
    net[1].eval()
    before, state = copy.deepcopy(net.state_dict()), torch.get_rng_state()
    collect_inputs(net, [torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))])
    assert torch.equal(torch.get_rng_state(), state)
    assert [module.training for module in net] == [True, False, True, True]
    assert all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())
    assert not any(module._forward_pre_hooks for module in net.modules())


def test_a_watched_network_computes_the_same_to_the_bit():
    net, x = network().eval(), torch.randn(2, 3, 8, 8)
    plain = net(x)
    with watched_inputs(net) as found:
        assert torch.equal(net(x), plain)
        assert torch.equal(net(x), plain)
    assert int(found["0"].counts.sum()) == 2 * x.numel()


def test_a_compiled_network_is_measured_and_stays_compiled():
    torch._dynamo.reset()
    net, x = network().eval(), torch.randn(2, 3, 8, 8)
    want = collect_inputs(net, [x])
    net.compile(backend="aot_eager")
    with torch.no_grad():
        net(x)
    found = collect_inputs(net, [x])
    assert all(torch.equal(found[name].counts, want[name].counts) for name in want)
    with torch.no_grad(), torch.compiler.set_stance("fail_on_recompile"):
        net(x)


def test_counts_are_those_of_numpy():
    layer = KAConv2d(2, 3, 1, spline=Spline(grid_size=4, grid_range=(-1.0, 2.0), sharing="input"), norm="batch").eval()
    with torch.no_grad():
        layer.norm.weight.copy_(torch.tensor([2.5, 8.0]))
    x = torch.randn(4, 2, 30, 30)
    found = collect_inputs(layer, [x, x[:1]])[""]
    t = torch.cat([activation_inputs(layer, part) for part in (x, x[:1])]).detach().movedim(1, 0).flatten(1).numpy()
    edges = np.linspace(*found.span, found.counts.shape[1] - 1)
    for run, (counts, values) in enumerate(zip(found.counts, t, strict=True)):
        want = np.histogram(values, np.concatenate([[-np.inf], edges, [np.inf]]))[0]
        assert np.abs(counts.numpy() - want).sum() <= 4  # a value on a border, to the rounding of float32
        assert found.outside(layer.spline) == pytest.approx(np.mean((t < -1) | (t > 2)), abs=1e-3)
        inside = np.histogram(values, np.linspace(-1, 2, 5))[0]
        assert np.abs(found.intervals(layer.spline)[run].numpy() - inside).sum() <= 4
        assert np.abs(found.coarser().intervals(layer.spline)[run].numpy() - inside).sum() <= 4
        assert found.points()[run, -1] == pytest.approx(values[values > found.span[1]].mean(), rel=1e-4)


def test_nan_is_not_counted():
    phi = SplineActivation()
    x = torch.tensor([0.5, float("nan"), 100.0])
    assert int(collect_inputs(phi, [x])[""].counts.sum()) == 2
