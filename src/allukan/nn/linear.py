"""KA layer: the Kolmogorov–Arnold replacement of ``nn.Linear``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from allukan.nn.layer import KALayer, check_floats
from allukan.nn.norm import make_norm
from allukan.nn.opaque import one_node
from allukan.nn.spline import Spline
from allukan.ops.linear_maps import MatrixProduct
from allukan.ops.tracing import sizes


class KALinear(KALayer):
    """y_q = Σ_p λ_qp φ_a(q)(x_p) + β_q on the last dimension, ``(*, in_features)`` → ``(*, out_features)``.

    The signature starts like ``torch.nn.Linear``. Source: KA layer of arXiv 2602.03156.

    With ``norm`` "layer", "batch" (over all rows), "group" or a norm module of torch it is the unit normalise → φ → mix:
    y_q = Σ_p λ_qp φ_a(q)(γ_p x̂_p + β_p) + bias. Raises ``ValueError`` for a norm that does not fit.
    ``spline`` may be a mapping of what differs from ``Spline()``.

    >>> import torch
    >>> KALinear(4, 3, spline=Spline(sharing="output"))(torch.zeros(2, 5, 4)).shape
    torch.Size([2, 5, 3])
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        *,
        spline: Spline | Mapping[str, Any] | None = None,
        norm: str | nn.Module | None = None,
        device: Any = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        norm = make_norm(norm, in_features, 0, device=device, dtype=dtype)
        spline = Spline().updated(spline)
        super().__init__(in_features, out_features, (), 1, bias, spline, norm, device=device, dtype=dtype)
        self.in_features, self.out_features = in_features, out_features
        self.linear = MatrixProduct(self.plan.conv_groups)

    @one_node
    def forward(self, x: Tensor) -> Tensor:
        """``(*, in_features)`` → ``(*, out_features)``; raises ``ValueError`` for another last dimension."""
        self.check_input(x)
        if self.plan.activations == 1 and self.norm is None:
            return self.unit(x)
        return self.unit(x.reshape(-1, self.in_features)).view(*x.shape[:-1], self.out_features)

    def check_input(self, x: Tensor) -> None:
        """``ValueError`` unless the last dimension of x, of floating point, has the features of the layer."""
        check_floats(self, x)
        if not x.ndim or sizes(x)[-1] != self.in_features:
            name = type(self).__name__
            raise ValueError(f"{name} expects {self.in_features} features in the last dimension, got {tuple(x.shape)}")
