"""φ as piecewise cubics on a fine grid: the tables that the CPU kernels look up, base activation included.

Every curve of one activation (column 0 the base b, column 1 + m the basis function B_m) is a cubic in t ∈ [0, 1] on every row of
a uniform grid whose step divides the interval of the spline. For B-splines up to order 3 that is exact; a smooth base is
interpolated in Chebyshev's nodes, off by 1e-8 in value and 1e-6 in slope at most, about the rounding of float32, and so are other
families of basis functions, in steps of at most 1 / ``FINENESS`` of their width. So φ = w b + Σ c_m B_m is one look-up and
Horner's rule, no exponential. Beyond the outermost rows a base follows its asymptotes, a basis function stays what it is there.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache, cached_property

import numpy as np
import torch
from torch import Tensor

from allukan.ops.activations import base_activation
from allukan.ops.basis import family
from allukan.ops.bspline import GridRange

Grid = tuple[int, int, GridRange]  # G, k and the ends
FINENESS = 16  # rows a width of the basis: cubics in Chebyshev's nodes are then off by 1 / (3072 · 16⁴) = 5e-9
MAX_ROWS = 1 << 15
_TRIED, _ROUNDING = 128, 1e-9


@dataclass(frozen=True)
class Curves:
    """What a kernel knows of one kind of activation.

    Attributes:
        base: ``(rows, 4)`` float32, powers of t.
        local: ``(alive, width, 4)``, the basis functions that live on a row, for the rows from ``first_alive`` on.
        begin: ``(alive,)`` int32, the first of these.
        first_alive: first row on which a basis function lives.
        columns: all curves on all rows, ``(M + 1, rows, 4)``.
        slopes: their derivatives by x, ``(M + 1, rows, 4)``, the last power 0.
        grid: float32 (scale, shift, first, last, right, left, right slope, left slope); u = x·scale + shift, row = ⌊u⌋ - first.
    """

    base: np.ndarray
    local: np.ndarray
    begin: np.ndarray
    first_alive: int
    columns: np.ndarray
    slopes: np.ndarray
    grid: np.ndarray

    @cached_property
    def addresses(self) -> dict[str, int]:
        """Of the arrays, which stay alive with this object."""
        return {name: getattr(self, name).ctypes.data for name in ("base", "local", "begin", "columns", "slopes", "grid")}


def rows_needed(grid: Grid, basis: str, base: str) -> int:
    """Rows of the table."""
    first, last, _ = _extent(grid, basis, base)
    return last - first + 1


@cache
def curves(grid: Grid, basis: str, base: str) -> Curves:
    """The tables of one kind of activation, made once."""
    with torch.device("cpu"):  # whatever the default is
        return _curves(grid, basis, base)


def _curves(grid: Grid, basis: str, base: str) -> Curves:
    lo = grid[2][0]
    first, last, scale = _extent(grid, basis, base)
    shift = math.ceil(lo * scale) - lo * scale  # knots fall on row borders, and u is as exact around 0 as x is
    nodes = (1 - torch.cos((2 * torch.arange(4, dtype=torch.float64) + 1) * (math.pi / 8))) / 2
    edges = torch.arange(first, last + 1, dtype=torch.float64)
    x = (edges.unsqueeze(1) + nodes - shift) / scale
    values = torch.cat([_curved(base, x).unsqueeze(-1), family(basis).values(x, *grid)], dim=-1)
    table = torch.linalg.solve(torch.vander(nodes, increasing=True), values)  # (rows, 4 powers, M + 1)
    table = torch.where(table.abs() < 1e-13, 0.0, table)
    for end, t in ((0, 1.0), (-1, 0.0)):  # the outermost rows hold the asymptote, from the border on
        value = table[end].T @ torch.tensor([t**p for p in range(4)], dtype=torch.float64)
        table[end] = 0.0
        table[end, 0] = value
    ends = ((last - shift) / scale, (first + 1 - shift) / scale) if base_activation(base).curved else (0.0, 0.0)
    position = np.array([scale, shift, first, last, *ends, *base_activation(base).slopes], np.float32)
    slopes = torch.zeros_like(table)
    slopes[:, :3] = table[:, 1:] * torch.tensor([[1.0], [2.0], [3.0]], dtype=torch.float64) * scale
    columns, column_slopes = (t.permute(2, 0, 1).float().contiguous().numpy() for t in (table, slopes))
    return Curves(columns[0], *_pack(columns[1:]), columns, column_slopes, position)


def _pack(functions: np.ndarray) -> tuple[np.ndarray, np.ndarray, int]:
    """``local``, ``begin`` and ``first_alive`` of basis functions ``(M, rows, 4)``."""
    lives = np.abs(functions).max(2) > 0
    rows = np.flatnonzero(lives.any(0))
    first, stop = rows[0], rows[-1] + 1
    lives = lives[:, first:stop]
    width = int((len(lives) - lives[::-1].argmax(0) - lives.argmax(0)).max())
    begin = np.minimum(lives.argmax(0), len(lives) - width).astype(np.int32)
    chosen = begin[:, None] + np.arange(width)
    return functions[chosen, np.arange(first, stop)[:, None]], begin, int(first)


def _extent(grid: Grid, basis: str, base: str) -> tuple[int, int, float]:
    """Numbers of the first and the last row, and rows a unit of x; the outermost rows lie beyond everything that is curved."""
    (grid_size, _, (lo, hi)), functions = grid, family(basis)
    h = (hi - lo) / grid_size
    reach = base_activation(base).curved
    scale = _rows_an_interval(grid, basis, base) / h
    start, stop = functions.ends(*grid)
    left, right = min(start, -reach), max(stop, reach)
    return math.floor(left * scale) - 1, math.ceil(right * scale) + 1, scale


def _rows_an_interval(grid: Grid, basis: str, base: str) -> int:
    """As few as resolve the curves and have every kink of the base on the border of two rows.

    >>> _rows_an_interval((5, 3, (-3.0, 3.0)), "bspline", "relu"), _rows_an_interval((5, 3, (-3.0, 3.0)), "bspline", "hardtanh")
    (1, 3)
    """
    grid_size, _, (lo, hi) = grid
    h, known = (hi - lo) / grid_size, base_activation(base)
    least = max(1, math.ceil(h / min(known.step, family(basis).width(*grid) / FINENESS)))
    places = [(kink - lo) / h for kink in known.kinks]
    fits = (rows for rows in range(least, least + _TRIED) if all(abs(p * rows - round(p * rows)) < _ROUNDING for p in places))
    return next(fits, MAX_ROWS)  # none: more than an engine takes


def _curved(base: str, x: Tensor) -> Tensor:
    """The base where it is curved; straight lines are not in the table."""
    known = base_activation(base)
    return known.function(x) if known.curved else torch.zeros_like(x)
