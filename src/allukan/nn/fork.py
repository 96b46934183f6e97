"""A KA convolution with a second, 1×1 map of the same activated input: the first unit of a stage and the shortcut around it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from allukan.nn.conv import KAConv
from allukan.nn.opaque import one_node
from allukan.nn.spline import Spline
from allukan.ops.layer import Mapped
from allukan.ops.linear_maps import Convolution

_CONVOLUTIONS: dict[int, type[nn.Module]] = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}


class KAFork(KAConv):
    """y = λ ∗ h + bias and s = μ h of ONE h = φ(γ x̂ + β): ``(B, C, *S)`` → ``(B, C', *S')`` and ``(B, C'', *S)``.

    Norm and activation are those of a ``KAConv``, computed once for both maps; λ is its ``weight``, μ the weight of ``side``, a
    1×1 convolution ``(C'', C, 1, …)`` without bias. So the activations must belong to the inputs: ``sharing`` "layer" or
    "input". Use it as ``KAFork1d``, ``KAFork2d`` or ``KAFork3d``.

    Raises ``ValueError`` for another sharing, and for another padding than with zeros.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        side_channels: int,
        *args: Any,
        spline: Spline | Mapping[str, Any] | None = None,
        **options: Any,
    ) -> None:
        spline = Spline().updated(spline)
        if spline.sharing not in ("layer", "input"):
            raise ValueError(f"a fork has one φ an input, so sharing must be 'layer' or 'input', got {spline.sharing!r}")
        super().__init__(in_channels, out_channels, *args, spline=spline, **options)
        if self._border:
            raise ValueError(f"a fork pads with zeros, after φ; padding_mode must be 'zeros', got {self.padding_mode!r}")
        factory = {"device": self.weight.device, "dtype": self.weight.dtype}
        self.side = _CONVOLUTIONS[self.spatial_dims](in_channels, side_channels, 1, bias=False, **factory)

    @one_node
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        """``(B, C, *S)`` → ``(B, C', *S')``, ``(B, C'', *S)``; ``ValueError`` for another number of channels or dimensions."""
        self.check_input(x)
        n = self.spatial_dims
        side = Convolution((1,) * n, (0,) * n, (1,) * n)
        main = Mapped(self.linear, self.weight, self.bias)
        y, s = self.mixed(x, (main, Mapped(side, self.side.weight, None)))  # type: ignore[arg-type]
        return y, s


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
