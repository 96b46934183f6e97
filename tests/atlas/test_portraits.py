"""What is shown of a layer, against counts of the inputs themselves."""

import numpy as np
import pytest
import torch

from allukan.atlas import portrait
from allukan.atlas.drawing import HEIGHT, draw
from allukan.nn import KAConv2d, KALinear, Spline, SplineActivation
from allukan.nn.histogram import collect_inputs


def met_by(layer, x):
    return portrait(layer, collect_inputs(layer, [x])[""])


def test_dead_cells_are_those_that_no_input_falls_into():
    x = torch.cat([torch.rand(500) * 1.1 - 2.9, torch.rand(300) * 0.5 + 1.3])
    layer = SplineActivation(Spline(grid_size=10))
    counts, edges = np.histogram(x, 10, (-3, 3))
    want = [(edges[i], edges[i + 1]) for i in np.flatnonzero(counts == 0)]
    assert len(want) > 3
    found = met_by(layer, x)
    assert np.array(found.dead) == pytest.approx(np.array(want))
    assert len(draw(found).dead) == len(want)


def test_bars_are_the_shares_of_the_inputs():
    x = torch.randn(20000, generator=torch.Generator().manual_seed(0))
    found = met_by(SplineActivation(), x)
    want, _ = np.histogram(x, len(found.bars), (found.t[0], found.t[-1]))
    assert found.bars == pytest.approx(want / len(x), abs=0.004)
    assert found.seen == pytest.approx(np.quantile(x, [0.005, 0.995]), abs=0.05)


def test_base_and_spline_part_make_up_what_the_layer_computes():
    layer = SplineActivation(Spline(base="tanh"))
    torch.nn.init.normal_(layer.coef)
    found = met_by(layer, torch.randn(100))
    with torch.no_grad():
        assert found.phi == pytest.approx(layer(torch.from_numpy(found.t).float()).numpy(), abs=1e-5)
    assert found.base == pytest.approx(np.tanh(found.t))
    assert found.band is None


@pytest.mark.parametrize(("sharing", "base", "parts"), [("input", "silu", 3), ("edge", "identity", 12), ("output", "silu", 4)])
def test_of_several_activations_the_one_nearest_to_their_median_is_shown(sharing, base, parts):
    layer = KALinear(3, 4, spline=Spline(sharing=sharing, base=base))
    assert len(layer.coef) == parts
    torch.nn.init.zeros_(layer.coef)
    with torch.no_grad():
        layer.base_weight.copy_(torch.arange(parts).float())
    found = met_by(layer, torch.randn(200, 3))
    assert found.number in ((parts - 1) // 2, parts // 2)
    assert found.fit.name == base
    low, high = found.band[:, -1] / (found.base[-1] / found.number)
    assert (low, high) == pytest.approx(np.quantile(np.arange(parts), [0.1, 0.9]), abs=1e-5)


def test_an_activation_of_one_channel_stands_over_the_inputs_of_that_channel():
    layer = KAConv2d(2, 1, 1, spline=Spline(sharing="input"))
    x = torch.randn(1, 2, 40, 40) * 0.2 + torch.tensor([-1.5, 1.5]).view(1, 2, 1, 1)
    found = met_by(layer, x)
    middle = (found.t[:-1] + found.t[1:]).mean() / 2
    assert np.sign(np.average(np.linspace(found.t[0], found.t[-1], len(found.bars)), weights=found.bars) - middle) == (
        1 if found.number else -1
    )


def test_an_activation_that_meets_nothing_is_drawn_too():
    found = met_by(SplineActivation(), torch.full((5,), torch.nan))
    assert found.fit.name == "constant"
    assert len(found.dead) == 5
    assert "nan" not in draw(found).phi + draw(found).histogram
    assert 0 < draw(found).zero < HEIGHT
