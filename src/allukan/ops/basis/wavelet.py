"""Mexican hat wavelets, Wav-KAN (arXiv 2405.12832): B_m(x) = 2 / (√3 π^¼) (1 - z²) e^(-z²/2), z = (x - c_m) / h.

M even translations c_m from lo to hi and one scale h, their distance, all fixed, where a Wav-KAN edge has one wavelet whose
translation and scale it learns. Outside the grid the outermost wavelets run out to zero within a few h.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from allukan.ops.basis.definition import centred

_NORM = 2 / (math.sqrt(3) * math.pi**0.25)  # of unit energy


def _hat(z: Tensor) -> Tensor:
    square = z * z
    return _NORM * (1 - square) * torch.exp(-0.5 * square)


def _slope(z: Tensor) -> Tensor:
    square = z * z
    return _NORM * z * (square - 3) * torch.exp(-0.5 * square)


FAMILY = centred(_hat, _slope, reach=9.0, width=(15 * _NORM) ** -0.25, flops=(6, 3))
