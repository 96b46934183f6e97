"""KAonv layer: the Kolmogorov–Arnold replacement of ``nn.Conv1d/2d/3d``, one class for every dimension."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from allukan.nn.layer import KALayer, check_floats
from allukan.nn.norm import make_norm
from allukan.nn.opaque import one_node
from allukan.nn.spline import Spline
from allukan.ops.autograd import cached
from allukan.ops.linear_maps import Convolution, PaddedConvolution, same_padding
from allukan.ops.tracing import sizes

Size = int | Sequence[int]
Widths = int | Sequence[int | tuple[int, int]]  # a dimension one number, or those before and after
_PADDING_MODES = ("zeros", "reflect", "replicate", "circular")


class KAConv(KALayer):
    """y_q = Σ λ_qp φ_a(q)(x_p) + β_q with p over input channels × kernel offsets, ``(B, C, *S)`` → ``(B, C', *S')``.

    Use it as ``KAConv1d``, ``KAConv2d`` or ``KAConv3d``; the signature starts like torch's convolutions. Zero padding is
    applied AFTER φ, as the padded places are absent edges, not inputs of value 0 (φ(0) ≠ 0 in general); the other padding
    modes repeat inputs, which is the same before and after φ. Source: KAonv layer of arXiv 2602.03156.

    ``padding`` may also be a pair of widths (before, after) a dimension, and "same" goes with a stride, as in TensorFlow:
    ⌈size / stride⌉ outputs, by widths that depend on the size of x.

    With ``norm`` "batch", "instance", "group", "layer" (over the channels of every place) or a norm module of torch the layer is
    the unit normalise → φ → mix: y_q = Σ λ_qp φ_a(q)(γ_p x̂_p + β_p) + bias, all padding after the norm.

    Raises ``ValueError`` for options that do not fit together, in one sentence.
    """

    spatial_dims: int

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Size,
        stride: Size = 1,
        padding: Widths | str = 0,
        dilation: Size = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: str = "zeros",
        *,
        spline: Spline | Mapping[str, Any] | None = None,
        norm: str | nn.Module | None = None,
        device: Any = None,
        **factory: Any,
    ) -> None:
        spatial_dims = self.spatial_dims
        kernel = _tuple(kernel_size, spatial_dims, "kernel_size")
        norm = make_norm(norm, in_channels, spatial_dims, device=device, dtype=factory.get("dtype"))
        spline = Spline().updated(spline)
        super().__init__(in_channels, out_channels, kernel, groups, bias, spline, norm, device=device, **factory)
        self.in_channels, self.out_channels = in_channels, out_channels
        self.kernel_size, self.groups, self.padding_mode = kernel, groups, padding_mode
        self.stride = _tuple(stride, spatial_dims, "stride")
        self.dilation = _tuple(dilation, spatial_dims, "dilation")
        self.padding: Any = padding if isinstance(padding, str) else _widths(padding, spatial_dims)
        self._check_padding()
        self._border = [] if padding_mode == "zeros" else self.padding_widths()

    def _check_padding(self) -> None:
        if self.padding_mode not in _PADDING_MODES:
            raise ValueError(f"unknown padding_mode {self.padding_mode!r}; choose one of {', '.join(_PADDING_MODES)}")
        if isinstance(self.padding, str):
            if self.padding not in ("same", "valid"):
                raise ValueError(f"unknown padding {self.padding!r}; choose 'same', 'valid' or whole numbers")
            if self.padding_mode != "zeros" and self._by_size:
                raise ValueError(f"padding='same' with stride {self.stride} pads with zeros, not by {self.padding_mode!r}")

    @property
    def _by_size(self) -> bool:
        """Whether the widths depend on the size of x."""
        return self.padding == "same" and any(s != 1 for s in self.stride)

    def padding_widths(self, size: Sequence[int] = ()) -> list[int]:
        """What the padding adds at both ends of each dimension, for ``F.pad``: the last dimension first.

        ``size`` is that of x, needed for "same" with a stride alone.
        """
        return [width for pair in reversed(self.paddings(size)) for width in pair]

    def paddings(self, size: Sequence[int]) -> list[tuple[int, int]]:
        """The widths before and after, a dimension."""
        if self._by_size:
            return [same_padding(*d) for d in zip(size, self.kernel_size, self.stride, self.dilation, strict=True)]
        return _padding(self.padding, self.kernel_size, self.dilation)

    @property
    def linear(self) -> Convolution | PaddedConvolution:  # type: ignore[override]
        """The convolution after φ, of the options that the layer has now."""
        if self._by_size:
            return PaddedConvolution(self.stride, self.dilation, self.plan.conv_groups)
        padding = "valid" if self._border else self.padding
        return _convolution(self.kernel_size, self.stride, padding, self.dilation, self.plan.conv_groups)

    @one_node
    def forward(self, x: Tensor) -> Tensor:
        """``(B, C, *S)`` → ``(B, C', *S')``; raises ``ValueError`` for another number of channels or dimensions."""
        self.check_input(x)
        return self.unit(x)

    def pad(self, x: Tensor) -> Tensor:
        """x with the border of another padding mode than "zeros", which are padded after φ."""
        return F.pad(x, self._border, mode=self.padding_mode) if self._border else x

    def check_input(self, x: Tensor) -> None:
        """``ValueError`` unless x is ``(B, C, *S)`` of floating point with the channels and dimensions of the layer."""
        check_floats(self, x)
        if x.ndim != self.spatial_dims + 2 or sizes(x)[1] != self.in_channels:
            raise ValueError(
                f"{type(self).__name__} expects (B, {self.in_channels}, *S) with {self.spatial_dims} spatial dimensions, "
                f"got {tuple(x.shape)}"
            )

    def extra_repr(self) -> str:
        """The options, as torch's own layers print theirs."""
        return (
            f"{super().extra_repr()}, stride={self.stride}, padding={self.padding}, dilation={self.dilation}, "
            f"groups={self.groups}, padding_mode={self.padding_mode!r}"
        )


class KAConv1d(KAConv):
    """``KAConv`` on ``(B, C, L)``; drops in for ``nn.Conv1d``."""

    spatial_dims = 1


class KAConv2d(KAConv):
    """``KAConv`` on ``(B, C, H, W)``; drops in for ``nn.Conv2d``.

    >>> import torch
    >>> KAConv2d(3, 8, 3, padding=1)(torch.zeros(1, 3, 16, 16)).shape
    torch.Size([1, 8, 16, 16])
    >>> list(KAConv2d(3, 8, 3, norm="batch").state_dict())[4:]
    ['norm.weight', 'norm.bias', 'norm.running_mean', 'norm.running_var', 'norm.num_batches_tracked']
    """

    spatial_dims = 2


class KAConv3d(KAConv):
    """``KAConv`` on ``(B, C, D, H, W)``; drops in for ``nn.Conv3d``."""

    spatial_dims = 3


@cached
def _convolution(
    kernel: tuple[int, ...], stride: tuple[int, ...], padding: Any, dilation: tuple[int, ...], groups: int
) -> Convolution | PaddedConvolution:
    pairs = _padding(padding, kernel, dilation)
    surplus = tuple(after - before for before, after in pairs)
    if all(more == 0 or (more == 1 and s == 1) for more, s in zip(surplus, stride, strict=True)):
        return Convolution(stride, tuple(after for _, after in pairs), dilation, groups, surplus)
    return PaddedConvolution(stride, dilation, groups, tuple(pairs))


def _padding(padding: Any, kernel: tuple[int, ...], dilation: tuple[int, ...]) -> list[tuple[int, int]]:
    """Widths before and after, a dimension."""
    if not isinstance(padding, str):
        return [(width, width) if isinstance(width, int) else width for width in padding]
    totals = [d * (k - 1) if padding == "same" else 0 for d, k in zip(dilation, kernel, strict=True)]
    return [(total // 2, total - total // 2) for total in totals]


def _widths(padding: Widths, spatial_dims: int) -> tuple[int | tuple[int, int], ...]:
    """A dimension one number, or a pair of those before and after."""
    widths = tuple(
        w if isinstance(w, int) else _tuple(w, 2, "widths of padding") for w in _tuple(padding, spatial_dims, "padding")
    )
    return tuple(w if isinstance(w, int) else (w[0], w[1]) for w in widths)


def _tuple(value: Any, length: int, name: str) -> tuple[Any, ...]:
    values = (value,) * length if isinstance(value, int) else tuple(value)
    if len(values) != length:
        raise ValueError(f"{name} must be one number or {length}, got {values}")
    return values
