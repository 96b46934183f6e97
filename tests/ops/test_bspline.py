"""Oracle: scipy.interpolate.BSpline, in float64."""

import numpy as np
import pytest
import torch
from scipy.interpolate import BSpline

from allukan.ops import bspline

GRIDS = [(5, 3, (-1.0, 1.0)), (1, 1, (0.0, 2.0)), (8, 2, (-3.0, 3.0)), (4, 4, (-2.0, 5.0)), (3, 5, (-1.0, 0.5))]


def scipy_basis(x, size, order, grid_range, derivative=0):
    knots = bspline.knots(size, order, grid_range, dtype=torch.float64).numpy()
    columns = []
    for m in range(size + order):
        spline = BSpline(knots, np.eye(size + order)[m], order, extrapolate=False)
        values = (spline.derivative(derivative) if derivative else spline)(x.numpy())
        columns.append(np.nan_to_num(values))
    return torch.from_numpy(np.stack(columns, -1))


@pytest.mark.parametrize(("size", "order", "grid_range"), GRIDS)
def test_basis_is_scipys(size, order, grid_range):
    lo, hi = grid_range
    x = torch.linspace(lo + 1e-9, hi - 1e-9, 301, dtype=torch.float64)
    torch.testing.assert_close(bspline.basis(x, size, order, grid_range), scipy_basis(x, size, order, grid_range))
    if order > 1:
        derivative = bspline.basis_derivative(x, size, order, grid_range)
        torch.testing.assert_close(derivative, scipy_basis(x, size, order, grid_range, 1), atol=1e-9, rtol=1e-9)


@pytest.mark.parametrize(("size", "order", "grid_range"), GRIDS)
def test_basis_sums_to_one_inside_and_runs_out_to_zero(size, order, grid_range):
    lo, hi = grid_range
    h = (hi - lo) / size
    inside = torch.linspace(lo, hi, 50, dtype=torch.float64)
    torch.testing.assert_close(bspline.basis(inside, size, order, grid_range).sum(-1), torch.ones(50, dtype=torch.float64))
    far = torch.tensor([lo - (order + 1e-9) * h, hi + (order + 1e-9) * h, lo - 1e9, 1e9], dtype=torch.float64)
    assert bspline.basis(far, size, order, grid_range).abs().max() < 1e-12


@pytest.mark.parametrize("factor", [2, 3])
def test_refinement_leaves_the_function_unchanged(factor):
    coef = torch.randn(3, 8, dtype=torch.float64)
    x = torch.linspace(-1, 1, 101, dtype=torch.float64)
    finer = bspline.refine(coef, 3, (-1, 1), factor)
    assert finer.shape == (3, 5 * factor + 3)
    before = bspline.basis(x, 5, 3, (-1, 1)) @ coef.T
    torch.testing.assert_close(bspline.basis(x, 5 * factor, 3, (-1, 1)) @ finer.T, before)


def test_fit_recovers_a_spline_and_approximates_a_sine():
    x = torch.linspace(-1, 1, 200, dtype=torch.float64)
    coef = torch.randn(8, dtype=torch.float64)
    torch.testing.assert_close(bspline.fit(x, bspline.evaluate(x, coef, 3, (-1, 1)), 5, 3, (-1, 1)), coef)
    sine = bspline.fit(x, torch.sin(3 * x), 16, 3, (-1, 1))
    assert (bspline.evaluate(x, sine, 3, (-1, 1)) - torch.sin(3 * x)).abs().max() < 1e-4


@pytest.mark.parametrize(
    ("size", "order", "grid_range"), [(0, 3, (0, 1)), (5, 0, (0, 1)), (5, 3, (1, 1)), (5, 3, (0, float("nan")))]
)
def test_impossible_grids_are_refused(size, order, grid_range):
    with pytest.raises(ValueError, match=r"grid|order"):
        bspline.check_grid(size, order, grid_range)
