"""A learnable activation function by itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from allukan.nn.opaque import Opaque, one_node
from allukan.nn.spline import Spline
from allukan.ops import shared_spline


class SplineActivation(Opaque):
    """φ(x) = w b(x) + Σ_m c_m B_m(x) elementwise, one activation for all of x; starts as the base activation.

    ``spline.sharing`` must be "layer": sharing among outputs belongs to the KA layers. Raises ``ValueError`` otherwise.

    >>> x = torch.randn(2, 3)
    >>> torch.allclose(SplineActivation()(x), nn.functional.silu(x))
    True
    """

    def __init__(
        self, spline: Spline | Mapping[str, Any] | None = None, device: Any = None, dtype: torch.dtype | None = None
    ) -> None:
        super().__init__()
        self.spline = Spline().updated(spline)
        factory: dict[str, Any] = {"device": device, "dtype": dtype}
        if self.spline.sharing != "layer":
            raise ValueError(f"SplineActivation has one activation, so sharing must be 'layer', got {self.spline.sharing!r}")
        self.base_weight = nn.Parameter(torch.ones(1, **factory))
        self.coef = nn.Parameter(torch.zeros(1, self.spline.coefficients, **factory))

    def spline_parameters(self) -> list[nn.Parameter]:
        """What makes the activation: all there is."""
        return list(self.parameters())

    @one_node
    def forward(self, x: Tensor) -> Tensor:
        """Any shape → the same shape."""
        s = self.spline
        options = {"basis": s.basis, "base": s.base, "input_grad": s.input_grad, "impl": s.impl}
        return shared_spline(x, self.coef, self.base_weight, s.grid_range, s.spline_order, **options)  # type: ignore[arg-type]
