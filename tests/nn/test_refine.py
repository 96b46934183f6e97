"""A finer grid is the same function: pykan's grid extension without its change of the function."""

import copy

import pytest
import torch

from allukan.nn import KAConv2d, KALinear, Spline


def bent(layer):
    torch.nn.init.normal_(layer.coef)
    return layer.double()


@pytest.mark.parametrize("sharing", ["layer", "input", 2, "output", "edge"])
@pytest.mark.parametrize("order", [1, 2, 3])
def test_on_the_grid_nothing_changes(sharing, order):
    layer = bent(KAConv2d(4, 6, 3, padding=1, spline=Spline(4, order, (-2.0, 3.0), sharing=sharing)))
    x = -2 + 5 * torch.rand(2, 4, 6, 5, dtype=torch.float64)
    wanted = layer(x)
    layer.refine(12)
    assert layer.spline == Spline(12, order, (-2.0, 3.0), sharing=sharing)
    assert layer.coef.shape[1] == 12 + order
    torch.testing.assert_close(layer(x), wanted, rtol=1e-9, atol=1e-9)


def test_the_finer_grid_learns_and_is_saved_and_shown():
    layer = KALinear(3, 2, spline=Spline(grid_size=2))
    layer.refine(4)
    layer(torch.randn(5, 3)).square().sum().backward()
    assert layer.coef.grad.abs().sum() > 0
    again = KALinear(3, 2, spline=Spline(grid_size=4))
    again.load_state_dict(layer.state_dict())
    torch.testing.assert_close(again(torch.ones(1, 3)), layer(torch.ones(1, 3)))
    assert "grid_size=4" in repr(layer)
    assert repr(copy.deepcopy(layer)) == repr(layer)


def test_frozen_splines_stay_frozen_and_keep_their_type():
    layer = KALinear(3, 2).to(torch.bfloat16)
    layer.coef.requires_grad_(False)
    layer.refine(10)
    assert not layer.coef.requires_grad
    assert layer.coef.dtype is torch.bfloat16


@pytest.mark.parametrize(("basis", "size"), [("rbf", 10), ("bspline", 7), ("bspline", 2), ("bspline", 0), ("bspline", -5)])
def test_what_is_no_refinement_is_refused(basis, size):
    layer = KALinear(3, 2, spline=Spline(basis=basis))
    with pytest.raises(ValueError, match=f"cannot be refined to {size}"):
        layer.refine(size)
    assert layer.spline.grid_size == 5
