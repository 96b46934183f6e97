"""Reflectional switch functions, FasterKAN (github.com/AthanasiosDelis/faster-kan): B_m(x) = 1 - tanh²((x - c_m) / h).

M even centres from lo to hi. h is their distance, as in FastKAN, fixed; FasterKAN has a number of its own there, which it can
learn. Outside the grid the outermost bumps run out to zero like e^(-2|x|/h).
"""

from __future__ import annotations

import torch
from torch import Tensor

from allukan.ops.basis.definition import centred


def _bump(z: Tensor) -> Tensor:
    return 1 - torch.tanh(z).square()


def _slope(z: Tensor) -> Tensor:
    t = torch.tanh(z)
    return -2 * t * (1 - t * t)


FAMILY = centred(_bump, _slope, reach=12.0, width=16**-0.25, flops=(3, 2))
