"""The nearest named function, against scipy's least squares from many starts."""

import numpy as np
import pytest
import torch
from scipy.optimize import least_squares

from allukan.nn.named import NAMED, Fit, fit_named, nearest_named


def inputs(count=120):
    t = torch.linspace(-4, 4, count, dtype=torch.float64)
    shares = torch.exp(-t.square() / 2)
    return t, shares / shares.sum()


def wavy(t):
    """No named function: what a spline might be."""
    return torch.nn.functional.silu(t) + 0.3 * torch.sin(2.1 * t + 0.4) * torch.exp(-t.square() / 6)


@pytest.mark.parametrize("name", ["silu", "tanh", "gauss", "relu", "sin"])
def test_no_start_of_scipy_comes_nearer(name):
    t, shares = inputs()
    phi, root, function = wavy(t), shares.sqrt().numpy(), NAMED[name].function

    def residual(p):
        a, b, c, d = p
        return root * (a * function(b * t + c) + d - phi).numpy()

    starts = [(a, b, c, 0.0) for a in (1.0, -1.0) for b in (0.4, 1.0, 2.0, -1.0) for c in (-1.0, 0.0, 1.0)]
    spread = float(((phi - phi @ shares).square() @ shares).sqrt())
    ends = ([-np.inf, -8, -20, -np.inf], [np.inf, 8, 20, np.inf])  # the slopes that are searched: t has a spread of 1
    best = min(np.sqrt(2 * least_squares(residual, start, bounds=ends).cost) for start in starts) / spread
    found = fit_named(name, t, shares, phi)
    assert found.error <= 1.02 * best + 1e-4
    assert np.linalg.norm(residual((found.a, found.b, found.c, found.d))) / spread == pytest.approx(found.error, rel=1e-6)


@pytest.mark.parametrize("name", NAMED)
def test_a_named_function_is_found(name):
    t, shares = inputs()
    phi = 1.3 * NAMED[name].function(1.7 * t + 0.4) - 0.6
    found = nearest_named(t, shares, phi)
    assert found.name == ("tanh" if name == "sigmoid" else name)  # which are one function but for a and b
    assert found.error < 1e-3
    if name not in ("identity", "relu", "abs", "square", "sigmoid"):  # whose a takes b
        assert abs(found.b) == pytest.approx(1.7, rel=0.01)


def test_a_formula_of_small_values_keeps_what_is_added():
    assert str(Fit("tanh", 1e-4, 1.0, 0.0, 3e-4, 0.0)) == "0.0001·tanh(t) + 0.0003"
    assert str(Fit("tanh", 1e-4, 1.0, 0.0, 3e-8, 0.0)) == "0.0001·tanh(t)"
    assert str(Fit("tanh", 100.0, 1.0, 3e-4, 4e-4, 0.0)) == "100·tanh(t)"


def test_inputs_that_are_never_met_do_not_count():
    t, shares = inputs()
    shares = torch.where(t < 0, shares, 0.0)
    assert nearest_named(t, shares, torch.where(t < 0, 3 * t + 1, 50 * t)).name == "identity"


@pytest.mark.parametrize("count", [0, 1, 120])
def test_without_a_spread_it_is_a_constant(count):
    t, shares = inputs()
    shares[count:] = 0.0
    found = nearest_named(t, shares, torch.full_like(t, -2.5))
    assert (found.name, found.error, str(found)) == ("constant", 0.0, "−2.5" if count else "nan")
