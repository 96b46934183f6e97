"""The directly stacked KAN, which KA layers are measured against: unfold, one spline an edge, Cox–de Boor, plain autograd."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from allukan.nn.conv import KAConv
from allukan.nn.layer import KALayer
from allukan.nn.linear import KALinear
from allukan.nn.norm import normalised
from allukan.nn.spline import Spline
from allukan.ops import bspline
from allukan.ops.activations import base_function
from allukan.ops.tracing import sizes


class StackedKANLinear(KALinear):
    """``KALinear(sharing="edge")`` computed the ordinary way: the same parameters and function, autograd through the recursion.

    It keeps every intermediate value of the recursion for the backward pass, as efficient-kan's KANLinear does. With
    ``spline.input_grad="free"`` the spline's input is detached, which is the paper's Grad-Free Spline. Raises ``ValueError`` for
    another sharing than "edge".

    >>> StackedKANLinear(4, 3)(torch.zeros(2, 5, 4)).shape
    torch.Size([2, 5, 3])
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        *,
        spline: Spline | Mapping[str, Any] | None = None,
        **factory: Any,
    ) -> None:
        super().__init__(in_features, out_features, bias, spline=_edge_spline(spline), **factory)

    def unit(self, x: Tensor) -> Tensor:
        """``(N, in_features)`` → ``(N, out_features)``."""
        return _edges(self, normalised(self.norm, x).unsqueeze(0), None)[0]


class StackedKANConv(KAConv):
    """``KAConv(sharing="edge")`` computed the ordinary way: unfold the windows, then a KAN of their values.

    Parameters, options and function are those of ``KAConv``, zero padding after φ included. Use it as ``StackedKANConv1d``,
    ``StackedKANConv2d`` or ``StackedKANConv3d``. Raises ``ValueError`` for another sharing than "edge".
    """

    def __init__(self, *args: Any, spline: Spline | Mapping[str, Any] | None = None, **options: Any) -> None:
        super().__init__(*args, spline=_edge_spline(spline), **options)

    def unit(self, x: Tensor) -> Tensor:
        """``(B, C, *S)`` → ``(B, C', *S')``."""
        x, inside = self._zero_padded(self.pad(normalised(self.norm, x)))
        windows, space = unfold(x, self.kernel_size, self.stride, self.dilation, self.groups)
        if inside is not None:
            inside = unfold(inside, self.kernel_size, self.stride, self.dilation)[0].movedim(0, 1)  # (ΠS', 1, Πkernel)
        y = _edges(self, windows, inside)  # (groups, B · ΠS', C' / groups)
        return y.transpose(1, 2).reshape(self.out_channels, x.shape[0], *space).transpose(0, 1).contiguous()

    def _zero_padded(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """x padded by a value at which every spline is zero, and 1 inside, 0 in the padding ``(1, 1, *S)``: there b(x) ≠ 0."""
        widths = [] if self._border else self.padding_widths(x.shape[2:])
        if not any(widths):
            return x, None
        lo, hi = self.spline.grid_range
        outside = hi + (self.spline.spline_order + 1) * (hi - lo) / self.spline.grid_size
        inside = F.pad(x.new_ones(1, 1, *x.shape[2:]), widths)
        return F.pad(x, widths, value=outside), inside


class StackedKANConv1d(StackedKANConv):
    """``StackedKANConv`` on ``(B, C, L)``."""

    spatial_dims = 1


class StackedKANConv2d(StackedKANConv):
    """``StackedKANConv`` on ``(B, C, H, W)``.

    >>> StackedKANConv2d(3, 8, 3, padding=1)(torch.zeros(1, 3, 16, 16)).shape
    torch.Size([1, 8, 16, 16])
    """

    spatial_dims = 2


class StackedKANConv3d(StackedKANConv):
    """``StackedKANConv`` on ``(B, C, D, H, W)``."""

    spatial_dims = 3


def unfold(
    x: Tensor, kernel: Sequence[int], stride: Sequence[int], dilation: Sequence[int], groups: int = 1
) -> tuple[Tensor, tuple[int, ...]]:
    """Windows of a convolution in any number of dimensions, and S': ``(B, C, *S)`` → ``(groups, B · ΠS', C/groups · Πkernel)``.

    >>> unfold(torch.zeros(2, 4, 6, 5), (3, 3), (1, 1), (1, 1), groups=2)[0].shape
    torch.Size([2, 24, 18])
    """
    dims = len(kernel)
    for dim, (k, s, d) in enumerate(zip(kernel, stride, dilation, strict=True), start=2):
        x = x.unfold(dim, d * (k - 1) + 1, s)[..., ::d]
    space = tuple(x.shape[2 : 2 + dims])
    x = x.unflatten(1, (groups, -1)).movedim(1, 0)  # (groups, B, C / groups, *S', *kernel)
    x = x.movedim(2, 2 + dims)
    return x.flatten(1, 1 + dims).flatten(2), space


def _edges(layer: KALayer, x: Tensor, inside: Tensor | None) -> Tensor:
    """Inputs ``(G, N, P)`` → outputs ``(G, N, O)`` of G separate KANs from P to O: base branch and spline, one matmul each."""
    s, (layer_groups, _, inputs) = layer.spline, sizes(x)
    shape = (layer_groups, -1, inputs)
    wide = x.to(torch.promote_types(x.dtype, torch.float32))
    seen = wide if s.input_grad == "exact" else wide.detach()
    basis = bspline.basis(seen, s.grid_size, s.spline_order, s.grid_range).flatten(2)  # (G, N, P·M)
    base = base_function(s.base)(wide)
    if inside is not None:
        base = (base.unflatten(2, (-1, sizes(inside)[2])).unflatten(1, (-1, inside.shape[0])) * inside).view_as(base)
    coef = (layer.coef * layer.weight.reshape(-1, 1)).view(*shape[:2], sizes(basis)[2])
    y = _matmul(base, layer.base_weight.view(shape).to(wide.dtype)) + _matmul(basis, coef.to(wide.dtype))
    y = y if layer.bias is None else y + layer.bias.to(y.dtype).view(layer_groups, 1, -1)
    return y if x.dtype == wide.dtype else y.to(x.dtype)


def _matmul(x: Tensor, weight: Tensor) -> Tensor:
    """``(G, N, P)`` with ``(G, O, P)`` → ``(G, N, O)``."""
    return F.linear(x[0], weight[0]).unsqueeze(0) if sizes(x)[0] == 1 else x @ weight.mT


def _edge_spline(spline: Spline | Mapping[str, Any] | None) -> Spline:
    spline = Spline(sharing="edge").updated(spline)
    if spline.basis != "bspline":
        raise ValueError(f"a directly stacked KAN is one of B-splines, not of basis {spline.basis!r}: use KALinear or KAConv")
    if spline.sharing != "edge":
        raise ValueError(f"a directly stacked KAN has one spline an edge, so sharing must be 'edge', got {spline.sharing!r}")
    return spline
