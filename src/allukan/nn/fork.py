"""A KA convolution with a second, 1×1 map of the same activated input: the first unit of a stage and the shortcut around it."""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from allukan.nn.conv import KAConv
from allukan.nn.norm import normalised
from allukan.nn.opaque import one_node
from allukan.nn.spline import Spline
from allukan.ops import shared_spline

_CONVOLUTIONS: dict[int, type[nn.Module]] = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
_FUNCTIONS: dict[int, Any] = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}


class KAFork(KAConv):
    """y = λ ∗ h + bias and s = μ h of ONE h = φ(γ x̂ + β): ``(B, C, *S)`` → ``(B, C', *S')`` and ``(B, C'', *S)``.

    Norm and activation are those of a ``KAConv``, computed once for both maps; λ is its ``weight``, μ the weight of ``side``, a
    1×1 convolution ``(C'', C, 1, …)`` without bias. So the activations must belong to the inputs: ``sharing`` "layer" or
    "input". Use it as ``KAFork1d``, ``KAFork2d`` or ``KAFork3d``.

    Raises ``ValueError`` for another sharing, and for ``padding="same"`` with an even kernel.
    """

    def __init__(
        self, in_channels: int, out_channels: int, side_channels: int, *args: Any, spline: Spline | None = None, **options: Any
    ) -> None:
        spline = spline or Spline()
        if spline.sharing not in ("layer", "input"):
            raise ValueError(f"a fork has one φ an input, so sharing must be 'layer' or 'input', got {spline.sharing!r}")
        super().__init__(in_channels, out_channels, *args, spline=spline, **options)
        if any(self.linear.surplus):
            raise ValueError(f"a fork pads both ends alike, which padding='same' does not for kernel {self.kernel_size}")
        factory = {"device": self.weight.device, "dtype": self.weight.dtype}
        self.side = _CONVOLUTIONS[self.spatial_dims](in_channels, side_channels, 1, bias=False, **factory)

    @one_node
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        """``(B, C, *S)`` → ``(B, C', *S')``, ``(B, C'', *S)``; ``ValueError`` for another number of channels or dimensions."""
        self.check_input(x)
        s, m = self.spline, self.linear
        options: Any = {"basis": s.basis, "base": s.base, "input_grad": s.input_grad, "impl": s.impl}
        x = normalised(self.norm, x)
        h = shared_spline(x, self.coef, self.base_weight, s.grid_range, s.spline_order, blocks=self.plan.blocks, **options)
        convolve = _FUNCTIONS[self.spatial_dims]
        y = convolve(self.pad(h), self.weight, self.bias, m.stride, m.padding, m.dilation, m.groups)
        return y, self.side(h)


class KAFork1d(KAFork):
    """``KAFork`` on ``(B, C, L)``."""

    spatial_dims = 1


class KAFork2d(KAFork):
    """``KAFork`` on ``(B, C, H, W)``.

    >>> import torch
    >>> fork = KAFork2d(3, 8, 5, 3, padding=1, norm="batch")
    >>> [tuple(y.shape) for y in fork(torch.zeros(2, 3, 16, 16))]
    [(2, 8, 16, 16), (2, 5, 16, 16)]
    """

    spatial_dims = 2


class KAFork3d(KAFork):
    """``KAFork`` on ``(B, C, D, H, W)``."""

    spatial_dims = 3
