"""The block of Sprecher Networks: two splines and a vector of weights instead of a matrix."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from allukan.nn.activation import SplineActivation
from allukan.nn.opaque import Opaque, one_node
from allukan.nn.spline import Spline
from allukan.ops import shared_spline
from allukan.ops.engines.layout import without_autocast
from allukan.ops.tracing import recorded, sizes

SPRECHER = Spline(grid_size=100, grid_range=(-3.0, 4.0), base="identity")
CHUNK = 1 << 22  # inner spline values (N × in × outputs of a chunk) that exist at once


class SprecherLinear(Opaque):
    """One block of Sprecher Networks (arXiv 2512.19367) on the last dimension, ``(*, in_features)`` → ``(*, out_features)``.

        s_q = Σ_p λ_p φ(x_p + η q) + α q        q = 0 … out - 1
        s'_q = s_q + τ ω_q s_{q+1}              lateral mixing, cyclic; s' = s without it
        y_q = Φ(s'_q) + r_q                     Φ(s) = w b(s) + Σ_m c_m B_m(s)

    All outputs share φ, Φ, the shift η and the ONE vector λ: in + out parameters and two splines instead of a matrix of in · out.
    φ rises from 0 to 1 on the grid, by positive increments of its coefficients, and is constant beyond it (the paper moves the
    grid after the data). Φ starts as its base, on ``(-3, 3 + α (out - 1))``, a grid that covers s at the start. The residual r
    is ``w x``, for unequal widths ``w_i x_i`` summed or spread cyclically. A normalisation should follow, as in the paper:
    outputs differ by about α from one to the next.

    The values φ(x_p + η q), N × in × out of them, are computed in chunks of outputs and again in the backward pass, never kept.
    Computed in float32 at least, returned in the wider of x's and the parameters' dtypes.

    Args:
        in_features: inputs.
        out_features: outputs.
        spline: the grid of φ in units of x + ηq, intervals and order of both splines, the base of Φ; ``None`` is ``SPRECHER``,
            100 intervals on (-3, 4), cubic, base "identity". ``sharing`` must be "layer" and ``input_grad`` "exact".
        alpha: distance of neighbouring outputs, not learned.
        lateral: with lateral mixing.
        residual: with the residual.
        factory: ``device`` and ``dtype``.

    >>> SprecherLinear(4, 3)(torch.zeros(2, 5, 4)).shape
    torch.Size([2, 5, 3])
    >>> sum(p.numel() for p in SprecherLinear(256, 256).parameters())  # a matrix has 65,536
    722
    """

    mixing: Tensor | None
    mixing_scale: Tensor | None
    residual: Tensor | None

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        spline: Spline | Mapping[str, Any] | None = None,
        alpha: float = 1.0,
        lateral: bool = True,
        residual: bool = True,
        device: Any = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        factory: dict[str, Any] = {"device": device, "dtype": dtype}
        self.in_features, self.out_features, self.alpha = in_features, out_features, alpha
        self.spline = SPRECHER.updated(spline)
        if self.spline.basis != "bspline":
            raise ValueError(f"SprecherLinear needs basis='bspline', whose rising coefficients rise, got {self.spline.basis!r}")
        if self.spline.sharing != "layer" or self.spline.input_grad != "exact":
            raise ValueError(
                "SprecherLinear needs sharing='layer' and input_grad='exact', "
                f"got {self.spline.sharing!r} and {self.spline.input_grad!r}"
            )
        span = alpha * (out_features - 1)
        self.outer = SplineActivation(replace(self.spline, grid_range=(min(0.0, span) - 3, max(0.0, span) + 3)), **factory)
        self.weight = nn.Parameter(torch.empty(in_features, **factory))
        self.shift = nn.Parameter(torch.empty((), **factory))
        self.increments = nn.Parameter(torch.empty(self.spline.coefficients, **factory))
        several = lateral and out_features > 1
        self.register_parameter("mixing", nn.Parameter(torch.empty(out_features, **factory)) if several else None)
        self.register_parameter("mixing_scale", nn.Parameter(torch.empty((), **factory)) if several else None)
        links = 1 if in_features == out_features else max(in_features, out_features)
        self.register_parameter("residual", nn.Parameter(torch.empty(links, **factory)) if residual else None)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """The paper's: λ ~ N(0, 2/in), η = 1/(out + 10), φ linear, weak mixing, a residual of 0.1 or, where inputs pool, 1/in."""
        nn.init.normal_(self.weight, std=math.sqrt(2 / self.in_features))
        nn.init.constant_(self.shift, 1 / (self.out_features + 10))
        nn.init.zeros_(self.increments)
        nn.init.ones_(self.outer.base_weight)
        nn.init.zeros_(self.outer.coef)
        for parameter in (self.mixing, self.mixing_scale):
            if parameter is not None:
                nn.init.constant_(parameter, 0.1)
        if self.residual is not None:
            nn.init.constant_(self.residual, 1 / self.in_features if self.in_features > self.out_features else 0.1)

    def spline_parameters(self) -> list[nn.Parameter]:
        """What makes φ and Φ."""
        return [self.increments, *self.outer.spline_parameters()]

    def inner_coef(self) -> Tensor:
        """Coefficients ``(M,)`` of φ, rising to 1: a spline whose coefficients rise rises."""
        rising = F.softplus(self.increments).cumsum(0)
        return rising / rising[-1]

    @one_node
    def forward(self, x: Tensor) -> Tensor:
        """``(*, in_features)`` → ``(*, out_features)``; raises ``ValueError`` for another last dimension."""
        if sizes(x)[-1] != self.in_features:
            raise ValueError(f"SprecherLinear expects {self.in_features} features in the last dimension, got {tuple(x.shape)}")
        dtype = torch.promote_types(x.dtype, self.weight.dtype)
        y = self._compute(x.to(torch.promote_types(dtype, torch.float32)).reshape(-1, self.in_features))
        return y.to(dtype).view(*x.shape[:-1], self.out_features)

    @without_autocast
    def _compute(self, x: Tensor) -> Tensor:
        """``(N, in)`` → ``(N, out)`` in x's dtype, whatever autocast says."""
        q = torch.arange(self.out_features, dtype=x.dtype, device=x.device)
        given = (self.weight.to(x.dtype), self.inner_coef().to(x.dtype))
        width = self.out_features if recorded() else max(1, CHUNK // max(1, x.numel()))  # an export serves any N
        s = (
            torch.cat([self._chunk(x, (self.shift * part).to(x.dtype), *given) for part in q.split(width)], dim=1)
            + self.alpha * q
        )
        if self.mixing is not None and self.mixing_scale is not None:
            s = s + (self.mixing_scale * self.mixing).to(x.dtype) * s.roll(-1, 1)
        y = self.outer(s)
        return y if self.residual is None else y + self._skip(x, self.residual.to(x.dtype))

    def _chunk(self, *args: Tensor) -> Tensor:
        """``_sums``, again in the backward pass; where none will follow, without the wrapping that an export cannot hold."""
        if recorded() or not torch.is_grad_enabled():
            return self._sums(*args)
        return checkpoint(self._sums, *args, use_reentrant=False, preserve_rng_state=False)

    def _sums(self, x: Tensor, shifts: Tensor, weight: Tensor, coef: Tensor) -> Tensor:
        """Σ_p λ_p φ(x_p + shift): ``(N, in)`` and ``(Q,)`` → ``(N, Q)``."""
        s = self.spline
        lo, hi = s.grid_range
        shifted = (x.unsqueeze(1) + shifts.view(-1, 1)).clamp(lo, hi)  # (N, Q, in)
        no_base = weight.new_zeros(1)
        return (
            shared_spline(shifted, coef.view(1, -1), no_base, s.grid_range, s.spline_order, base="identity", impl=s.impl) @ weight
        )

    def _skip(self, x: Tensor, weight: Tensor) -> Tensor:
        (links,) = sizes(weight)
        if links == 1:
            return x * weight
        link = torch.arange(links, device=x.device)
        spread = x.index_select(1, link % self.in_features) * weight
        return x.new_zeros(x.shape[0], self.out_features).index_add(1, link % self.out_features, spread)

    def extra_repr(self) -> str:
        """The options, as torch's own layers print theirs."""
        return (
            f"{self.in_features}, {self.out_features}, alpha={self.alpha}, lateral={self.mixing is not None}, "
            f"residual={self.residual is not None}"
        )
