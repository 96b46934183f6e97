"""The tables of the CPU loops, read as their docstring says, against scipy's B-splines, torch's base activations and formulas."""

import numpy as np
import pytest
import torch
from numpy.polynomial import chebyshev
from scipy.interpolate import BSpline

from allukan.ops.activations import BASES, base_activation, base_function
from allukan.ops.basis import FAMILIES
from allukan.ops.engines import curves as module

GRIDS = [(5, 3, (-3.0, 3.0)), (10, 3, (-3.0, 3.0)), (1, 1, (-1.0, 1.0)), (7, 2, (-0.37, 2.1)), (3, 3, (40.0, 41.0))]


def tables(grid, base="silu", basis="bspline"):
    """The one place that knows how they are asked for."""
    return module.curves(grid, basis, base)


def points(lo, hi, count=4000):
    """Random ones on the grid, around it and far beyond, as float32 has them."""
    random, width = np.random.default_rng(0), hi - lo
    near = random.uniform(lo - 2 * width, hi + 2 * width, count)
    return np.concatenate([near, random.normal(0, 30, count), [lo, hi, 0.0, -300.0, 300.0]]).astype(np.float32)


def locate(curve, x):
    """Row and position of every x."""
    scale, shift, first, last = curve.grid[:4].astype(np.float64)
    u = x * scale + shift
    row = np.clip(np.floor(u), first, last)
    return (row - first).astype(int), np.clip(u - row, 0, 1)


def powers(table, curve, x):
    """Σ_p table[row, p] t^p."""
    row, t = locate(curve, x)
    return (table[row].astype(np.float64) * t[:, None] ** np.arange(4)).sum(1)


def lines(curve, x):
    """The straight parts of a base beyond its borders, and their slopes."""
    right, left, up, down = curve.grid[4:].astype(np.float64)
    return up * np.maximum(x - right, 0) + down * np.minimum(x - left, 0), up * (x > right) + down * (x <= left)


def elements(grid):
    """B_m of ``grid``: each zero beyond its k + 2 knots."""
    size, k, (lo, hi) = grid
    knots = lo + (hi - lo) / size * (np.arange(size + 2 * k + 1) - k)
    return [BSpline.basis_element(knots[m : m + k + 2], extrapolate=False) for m in range(size + k)]


@pytest.mark.parametrize("grid", GRIDS, ids=str)
def test_columns_are_scipys_basis_functions(grid):
    curve, x = tables(grid), points(*grid[2]).astype(np.float64)
    for column, element in zip(curve.columns[1:], elements(grid), strict=True):
        np.testing.assert_allclose(powers(column, curve, x), np.nan_to_num(element(x)), atol=2e-6)
    steep = grid[0] / (grid[2][1] - grid[2][0])
    if grid[1] > 1:  # broken lines have no slope in their knots
        for slope, element in zip(curve.slopes[1:], elements(grid), strict=True):
            np.testing.assert_allclose(powers(slope, curve, x), np.nan_to_num(element.derivative()(x)), atol=1e-5 * steep)


@pytest.mark.parametrize("grid", GRIDS[:3], ids=str)
@pytest.mark.parametrize("base", [*BASES, "leaky_relu:0.1"])
def test_the_first_column_is_the_base(grid, base):
    curve, x = tables(grid, base), points(*grid[2]).astype(np.float64)
    given = torch.from_numpy(x).requires_grad_()
    wanted = base_function(base)(given)
    (slope,) = torch.autograd.grad(wanted.sum(), given)
    line, line_slope = lines(curve, x)
    np.testing.assert_array_equal(curve.base, curve.columns[0])
    found = powers(curve.base, curve, x) + line
    np.testing.assert_allclose(found, wanted.detach(), rtol=1e-6, atol=3e-7)  # SiLU stays at its value in -18, -2.7e-7, beyond it
    apart = ~np.isin(x, [0.0, *base_activation(base).kinks])  # where a broken line has no slope
    np.testing.assert_allclose((powers(curve.slopes[0], curve, x) + line_slope)[apart], slope[apart], atol=4e-6)


@pytest.mark.parametrize("basis", FAMILIES)
@pytest.mark.parametrize("grid", GRIDS[:2], ids=str)
def test_what_lives_on_a_row_is_all_there_is(grid, basis):
    curve = tables(grid, basis=basis)
    dense = np.zeros_like(curve.columns[1:])
    for row, (begin, functions) in enumerate(zip(curve.begin, curve.local, strict=True), curve.first_alive):
        dense[begin : begin + len(functions), row] = functions
    np.testing.assert_array_equal(dense, curve.columns[1:])
    if basis == "bspline":
        assert curve.local.shape[1] == grid[1] + 1  # k + 1 of M
    assert all(a.flags.c_contiguous for a in (curve.base, curve.local, curve.begin, curve.columns, curve.slopes))


def centred(x, grid, count):
    (lo, hi) = grid[2]
    distance = (hi - lo) / (count - 1)
    return (x[:, None] - np.linspace(lo, hi, count)) / distance


def unit(x, grid):
    """-1 … 1 on the grid, constant beyond."""
    lo, hi = grid[2]
    return np.clip((2 * x - lo - hi) / (hi - lo), -1, 1)


def formula(basis, x, grid):
    """The table of ``docs/model.md``, ``(len(x), M)``."""
    count = grid[0] + grid[1]
    if basis == "rbf":
        return np.exp(-(centred(x, grid, count) ** 2))
    if basis == "rswaf":
        return 1 - np.tanh(centred(x, grid, count)) ** 2
    if basis == "chebyshev":
        lo, hi = grid[2]
        z = np.tanh(3 * (2 * x - lo - hi) / (hi - lo))
        return chebyshev.chebvander(z, count - 1)
    if basis == "fourier":
        angle = unit(x, grid) * np.pi / 2
        waves = [f(n * angle) for n in range(1, count) for f in (np.sin, np.cos)]
        return np.stack([np.ones_like(x), *waves], 1)[:, :count]
    u = 2 * unit(x, grid)
    n = (count - 1) // 2 * 2  # the largest even number below M
    return np.stack([u**m / (1 + u**n) for m in range(count)], 1)


@pytest.mark.parametrize("basis", ["rbf", "rswaf", "chebyshev", "fourier", "rational"])
@pytest.mark.parametrize("grid", [(5, 3, (-3.0, 3.0)), (4, 2, (-1.0, 2.5))], ids=str)
def test_columns_are_the_formulas_of_other_bases(grid, basis):
    curve, x = tables(grid, basis=basis), points(*grid[2]).astype(np.float64)
    wanted = formula(basis, x, grid)
    found = np.stack([powers(column, curve, x) for column in curve.columns[1:]], 1)
    assert found.shape == wanted.shape
    np.testing.assert_allclose(found, wanted, atol=3e-6 * np.abs(wanted).max())
