"""What KALinear and KAConv share: the parameters, their initialisation and the operation."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from allukan.nn.init import flat, unit_gain
from allukan.nn.norm import described, normalised
from allukan.nn.opaque import Opaque
from allukan.nn.spline import Plan, Spline, plan
from allukan.ops import basis_expansion, bspline
from allukan.ops.layer import Mapped, ka_layer
from allukan.ops.linear_maps import LinearMap
from allukan.ops.phi import Phi


def check_floats(layer: nn.Module, x: Tensor) -> None:
    """``ValueError`` for whole numbers, whose φ would be cut to whole numbers."""
    if not x.is_floating_point():
        raise ValueError(f"{type(layer).__name__} expects floating point, got {x.dtype}: say x.float()")


class KALayer(Opaque):
    """y_q = Σ_p λ_qp φ_a(q)(x_p) + β_q over inputs × kernel offsets p (SaKAN, arXiv 2602.03156; DESIGN section 2).

    Parameters: ``weight`` λ ``(out, in/groups, *kernel)``, ``base_weight`` w ``(A,)``, ``coef`` c ``(A, M)`` and ``bias`` β
    ``(out,)``. With ``sharing="edge"`` every edge has its own, in the order of ``weight.flatten()``, and
    y_q = Σ_p w_qp b(x_p) + λ_qp Σ_m c_qpm B_m(x_p), the ordinary KAN with its 10 parameters an edge (G 5, k 3).

    With a ``norm``, a module of torch, the layer is the unit normalise → φ → mix: y_q = Σ_p λ_qp φ_a(q)(γ_p x̂_p + β_p) + bias
    with the normalised input x̂ and the norm's scale γ and shift β, which Sprecher's formula gives every input.
    """

    bias: Tensor | None
    linear: LinearMap
    _border: Sequence[int] = ()

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: tuple[int, ...],
        groups: int,
        bias: bool,
        spline: Spline,
        norm: nn.Module | None,
        device: Any = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        factory: dict[str, Any] = {"device": device, "dtype": dtype}
        if groups < 1 or in_channels % groups or out_channels % groups:
            raise ValueError(f"groups={groups} must divide in_channels={in_channels} and out_channels={out_channels}")
        self.norm = norm
        self.plan: Plan = plan(spline.sharing, in_channels, out_channels, groups)
        self.spline = spline
        shape = (out_channels, in_channels // groups, *kernel)
        activations = math.prod(shape) if spline.sharing == "edge" else self.plan.activations
        self.weight = nn.Parameter(torch.empty(shape, **factory))
        self.base_weight = nn.Parameter(torch.empty(activations, **factory))
        self.coef = nn.Parameter(torch.empty(activations, spline.coefficients, **factory))
        self.register_parameter("bias", nn.Parameter(torch.empty(out_channels, **factory)) if bias else None)
        self.reset_parameters()

    @property
    def spline(self) -> Spline:
        """The options of the activations. Others may be assigned that need the same parameters; ``ValueError`` for the rest."""
        return self._spline

    @spline.setter
    def spline(self, spline: Spline) -> None:
        """Takes other options; the parameters stay."""
        before = getattr(self, "_spline", spline)
        if (spline.sharing, spline.coefficients) != (before.sharing, before.coefficients):
            raise ValueError(
                f"a layer of sharing {before.sharing!r} with {before.coefficients} coefficients cannot become one of "
                f"{spline.sharing!r} with {spline.coefficients}: build a new layer"
            )
        self._take(spline)

    def _take(self, spline: Spline) -> None:
        self._spline = spline
        self.phi = Phi(
            spline.grid_size,
            spline.spline_order,
            spline.grid_range,
            spline.basis,
            spline.base,
            spline.input_grad == "exact",
            self.plan.blocks,
            self.plan.expanded,
            spline.recompute,
            spline.impl,
            spline.sharing == "edge",
        )

    def refine(self, grid_size: int) -> None:
        """Give the splines a finer grid, a multiple of theirs, on which they are the same functions; ``coef`` is a new parameter.

        So a training may start on few intervals and go on with more (pykan's grid extension); an optimizer made before does not
        know the new coefficients. Exact on the grid; outside it a spline runs out within ``spline_order`` of the finer intervals.
        Raises ``ValueError`` for another basis than B-splines and for a size that is no multiple.

        >>> from allukan.nn import KALinear, Spline
        >>> layer, x = KALinear(4, 3, spline=Spline(grid_size=2)), torch.rand(5, 4)
        >>> y = layer(x)
        >>> layer.refine(6)
        >>> layer.coef.shape, torch.allclose(layer(x), y, atol=1e-5)
        (torch.Size([1, 9]), True)
        """
        factor, rest = divmod(grid_size, self.spline.grid_size)
        if self.spline.basis != "bspline" or rest or factor < 1:
            raise ValueError(
                f"grid_size {self.spline.grid_size} of basis {self.spline.basis!r} cannot be refined to {grid_size}: "
                "B-splines can, to a multiple"
            )
        finer = replace(self.spline, grid_size=grid_size)
        coef = bspline.refine(self.coef.detach(), self.spline.spline_order, self.spline.grid_range, factor)
        self.coef = nn.Parameter(coef, requires_grad=self.coef.requires_grad)
        self._take(finer)

    def reset_parameters(self) -> None:
        """Unit variance for unit-variance inputs, forward and backward (``unit_gain``); the same function for every sharing.

        A shared φ carries the gain, so that λ has the spread of torch's own weights, 1/√(3 n): behind a norm that spread only
        sets how fast λ turns for a given learning rate, which is then the one that a convolution needs. A unit, whose norm sees
        to the variance itself, starts as [norm, b, torch's own layer] does: φ is b.
        """
        delta, moment = unit_gain(self.spline)
        edges, inputs = self.spline.sharing == "edge", max(1, self.weight[0].numel())
        if self.norm is not None:
            gain, delta, spread = 1.0, 0.0, 1 / math.sqrt(3 * inputs)
        else:
            gain = 1.0 if edges else math.sqrt(3 / moment)
            spread = 1 / (gain * math.sqrt(inputs * moment))
        nn.init.normal_(self.weight, std=spread)
        with torch.no_grad():
            level = torch.tensor(flat(self.spline), dtype=torch.float64, device=self.coef.device)
            self.coef.copy_((gain * delta * level).expand_as(self.coef))
            self.base_weight.copy_(self.weight.flatten() if edges else torch.full_like(self.base_weight, gain))
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    def spline_parameters(self) -> list[nn.Parameter]:
        """What makes the activations: w and c; with an activation an edge λ and the bias too, since λ_qp scales φ_qp alone."""
        return list(self.parameters(recurse=False)) if self.spline.sharing == "edge" else [self.base_weight, self.coef]

    def unit(self, x: Tensor) -> Tensor:
        """Normalise → φ → mix, ``(B, C, *S)`` → ``(B, C', *S')`` or ``(N, C)`` → ``(N, C')``."""
        return self.mixed(x, (Mapped(self.linear, self.weight, self.bias),))[0]

    def mixed(self, x: Tensor, maps: tuple[Mapped, ...]) -> tuple[Tensor, ...]:
        """Several linear maps of one normalised and activated x, in one operation where it is known what the norm does."""
        norm = None if self._border else described(self.norm, x, self.phi)
        if norm is None:
            x = self.pad(normalised(self.norm, x))
        return ka_layer(x, self.coef, self.base_weight, self.phi, norm, maps)

    def pad(self, x: Tensor) -> Tensor:
        """What is repeated of the normalised input at its border: nothing here."""
        return x

    def activation_curves(self, points: int = 101) -> tuple[Tensor, Tensor]:
        """The learned activations on the grid: t ``(points,)`` and φ_a(t) ``(A, points)``; for "edge" one curve an edge."""
        lo, hi = self.spline.grid_range
        t = torch.linspace(lo, hi, points, dtype=self.coef.dtype, device=self.coef.device)
        s = self.spline
        grid = (s.grid_size, s.spline_order, s.grid_range)
        values = basis_expansion(t.view(-1, 1), *grid, basis=s.basis, base=s.base)  # (points, M+1)
        scale = self.weight.reshape(-1) if s.sharing == "edge" else torch.ones_like(self.base_weight)
        coef = torch.cat([self.base_weight.view(-1, 1), self.coef.view(-1, s.coefficients) * scale.view(-1, 1)], dim=1)
        return t.detach(), (coef @ values.T).detach()

    def extra_repr(self) -> str:
        """The options, as torch's own layers print theirs."""
        s = self.spline
        return (
            f"{tuple(self.weight.shape)}, bias={self.bias is not None}, sharing={s.sharing!r}, grid_size={s.grid_size}, "
            f"spline_order={s.spline_order}, grid_range={s.grid_range}, basis={s.basis!r}, base={s.base!r}, "
            f"input_grad={s.input_grad!r}"
        )
