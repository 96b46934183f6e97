"""Tables of straight pieces against the functions themselves, near, between and far from the grid."""

import pytest
import torch

from allukan.integrations.tables import LARGEST, TOLERANCE, tabulate
from allukan.ops import shared_spline
from allukan.ops.phi import Phi

GRID = (10, 3, (-3.0, 3.0))


def read(table, x):
    u = x / table.step + table.zero
    row = u.clamp(0, table.value.shape[1] - 1).long()
    return table.value[0, row] + table.slope[0, row] * u


@pytest.mark.parametrize("base", ["silu", "gelu", "tanh", "relu", "identity", "leaky_relu:0.1"])
@pytest.mark.parametrize("grid", [GRID, (6, 1, (-1.0, 2.0)), (7, 2, (-2.0, 1.5))])
def test_a_table_is_the_activation_wherever_it_is_asked(base, grid):
    phi, coef, weight = Phi(*grid, base=base), torch.randn(1, grid[0] + grid[1]), torch.tensor([1.3])
    table = tabulate(phi, coef, weight)
    x = torch.cat([torch.linspace(-9, 9, 5001), torch.tensor([-300.0, -40.0, -18.1, 0.0, 18.1, 40.0, 300.0])])
    wanted = shared_spline(x, coef, weight, grid[2], grid[1], base=base, impl="reference")
    error = (read(table, x) - wanted).abs() / wanted.abs().clamp(min=1)
    assert error.max() < 1e-5 * coef.abs().max()  # relative far outside


def test_a_table_is_no_finer_than_it_has_to_be():
    coef = torch.zeros(1, 13)
    straight, bent = (tabulate(Phi(*GRID, base=base), coef, torch.ones(1)) for base in ("identity", "silu"))
    assert straight.value.shape[1] < 300 < 3000 < bent.value.shape[1]
    assert straight.error < 1e-12 < bent.error < TOLERANCE * 3


@pytest.mark.parametrize(
    ("phi", "count"),
    [
        (Phi(*GRID, basis="rbf"), 1),  # does not end in lines
        (Phi(*GRID), LARGEST // 1000),  # too many of them
        (Phi(5, 1, (-1.0, 2.01), base="relu"), 1),  # the kink of the base is nowhere near a knot
    ],
)
def test_what_no_table_can_hold_has_none(phi, count):
    assert tabulate(phi, torch.randn(count, phi.coefficients), torch.ones(count)) is None
