"""Oracle: scipy.interpolate.BSpline, in float64."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.interpolate import BSpline

from allukan.ops import bspline

GRIDS = [(5, 3, (-1.0, 1.0)), (1, 1, (0.0, 2.0)), (8, 2, (-3.0, 3.0)), (4, 4, (-2.0, 5.0)), (3, 5, (-1.0, 0.5))]


def scipy_basis(x, size, order, grid_range, derivative=0):
    """Every basis function on its own knots, zero outside them: right on and outside the grid."""
    knots = bspline.knots(size, order, grid_range).numpy()
    columns = []
    for m in range(size + order):
        spline = BSpline.basis_element(knots[m : m + order + 2], extrapolate=False)
        columns.append(np.nan_to_num((spline.derivative(derivative) if derivative else spline)(x.numpy())))
    return torch.from_numpy(np.stack(columns, -1))


@pytest.mark.parametrize(("size", "order", "grid_range"), GRIDS)
def test_basis_is_scipys_inside_and_outside_the_grid(size, order, grid_range):
    lo, hi = grid_range
    margin = (order + 1.5) * (hi - lo) / size
    x = torch.linspace(lo - margin, hi + margin, 403, dtype=torch.float64) + 1.234e-4  # off the knots
    torch.testing.assert_close(bspline.basis(x, size, order, grid_range), scipy_basis(x, size, order, grid_range))
    derivative = bspline.basis_derivative(x, size, order, grid_range)
    torch.testing.assert_close(derivative, scipy_basis(x, size, order, grid_range, 1), atol=1e-9, rtol=1e-9)


@pytest.mark.parametrize(("size", "order", "grid_range"), GRIDS)
def test_basis_is_continuous_at_every_knot(size, order, grid_range):
    knots, step = bspline.knots(size, order, grid_range), 1e-10
    left, right = (bspline.basis(knots + side, size, order, grid_range) for side in (-step, step))
    assert (left - right).abs().max() < 1e-8


@pytest.mark.parametrize(("size", "order", "grid_range"), GRIDS)
def test_basis_sums_to_one_inside_and_is_zero_far_outside(size, order, grid_range):
    lo, hi = grid_range
    h = (hi - lo) / size
    inside = torch.linspace(lo, hi, 50, dtype=torch.float64)
    torch.testing.assert_close(bspline.basis(inside, size, order, grid_range).sum(-1), torch.ones(50, dtype=torch.float64))
    beyond = [lo - (order + 1e-9) * h, hi + (order + 1e-9) * h, lo - 1e9, 1e9, 1e300, -float("inf"), float("inf")]
    assert bspline.basis(torch.tensor(beyond, dtype=torch.float64), size, order, grid_range).abs().max() < 1e-12


def test_nan_stays_nan_and_only_there():
    values = bspline.basis(torch.tensor([0.1, float("nan"), 0.2]), 5, 3, (-1, 1))
    assert values.isnan().all(-1).tolist() == [False, True, False]
    assert values[[0, 2]].isfinite().all()


@pytest.mark.parametrize("order", [1, 2, 3, 4, 5])
def test_pieces_are_the_basis(order):
    """Basis function i + j on interval i, for every i: the closed form that the fast paths evaluate."""
    t = torch.linspace(0, 0.999, 17, dtype=torch.float64)
    powers = t.unsqueeze(-1) ** torch.arange(order + 1)
    for interval in range(4):
        expected = bspline.basis(interval + t, 4, order, (0.0, 4.0))[:, interval : interval + order + 1]
        torch.testing.assert_close(powers @ bspline.pieces(order).T, expected)


@settings(max_examples=30, deadline=None, database=None)
@given(
    size=st.integers(1, 9),
    order=st.integers(1, 5),
    factor=st.integers(1, 4),
    lo=st.floats(-5, 5),
    width=st.floats(0.1, 10),
)
def test_refinement_leaves_any_spline_unchanged(size, order, factor, lo, width):
    grid_range = (lo, lo + width)
    coef = torch.randn(2, size + order, dtype=torch.float64)
    x = lo + width * torch.rand(50, dtype=torch.float64)
    finer = bspline.refine(coef, order, grid_range, factor)
    assert finer.shape == (2, size * factor + order)
    before, after = (bspline.evaluate(x, c, order, grid_range) for c in (coef, finer))
    torch.testing.assert_close(after, before, atol=1e-8, rtol=1e-8)


@pytest.mark.parametrize(("size", "order", "grid_range"), GRIDS)
def test_fit_recovers_every_spline(size, order, grid_range):
    x = torch.linspace(*grid_range, 200, dtype=torch.float64)[:-1]
    coef = torch.randn(2, 3, size + order, dtype=torch.float64)
    fitted = bspline.fit(x, bspline.evaluate(x, coef, order, grid_range), size, order, grid_range)
    torch.testing.assert_close(fitted, coef, atol=1e-7, rtol=1e-7)


def test_fit_refuses_samples_that_say_too_little():
    x = torch.linspace(-1, 0, 20)
    with pytest.raises(ValueError, match="do not determine 8 coefficients"):
        bspline.fit(x, x.sin(), 5, 3, (-1, 1))


def test_fit_approximates_a_sine():
    x = torch.linspace(-1, 1, 200, dtype=torch.float64)
    sine = bspline.fit(x, torch.sin(3 * x), 16, 3, (-1, 1))
    assert (bspline.evaluate(x, sine, 3, (-1, 1)) - torch.sin(3 * x)).abs().max() < 1e-4


def test_refine_refuses_a_factor_below_one():
    with pytest.raises(ValueError, match="factor"):
        bspline.refine(torch.zeros(8), 3, (-1, 1), 0)


@pytest.mark.parametrize(
    ("size", "order", "grid_range"),
    [(0, 3, (0, 1)), (5, 0, (0, 1)), (5, 3, (1, 1)), (5, 3, (0, float("nan"))), (5, 3, (0, 1, 2)), (5, 3, (0, float("inf")))],
)
def test_impossible_grids_are_refused(size, order, grid_range):
    with pytest.raises(ValueError, match=r"grid|order"):
        bspline.check_grid(size, order, grid_range)
