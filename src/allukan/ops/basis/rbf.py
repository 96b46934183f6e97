"""Gaussian radial basis functions, FastKAN (arXiv 2405.06721): B_m(x) = exp(-((x - c_m) / h)²).

Centres and width are FastKAN's: M even centres from lo to hi, h their distance. Outside the grid the outermost bells run out
to zero within a few h. FastKAN normalises the input of every layer; here the norm that precedes a KA layer does.
"""

from __future__ import annotations

import torch
from torch import Tensor

from allukan.ops.basis.definition import centred


def _bell(z: Tensor) -> Tensor:
    return torch.exp(-z * z)


def _slope(z: Tensor) -> Tensor:
    return -2 * z * torch.exp(-z * z)


FAMILY = centred(_bell, _slope, reach=6.0, width=12**-0.25, flops=(2, 2))
