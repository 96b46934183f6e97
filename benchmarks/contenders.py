"""What is compared: our layers by name, and the layers of peers in the same places."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from allukan.errors import UserError, suggestion
from allukan.models.layers import Activation
from allukan.nn import Spline
from allukan.nn.stacked import unfold

REFERENCE = "conv"  # the convolution or linear layer with a fixed activation
VARIANTS: dict[str, tuple[str, Spline]] = {
    "conv": ("conv", Spline()),
    "ka": ("ka", Spline()),
    "ka-free": ("ka", Spline(input_grad="free")),
    "ka-keep": ("ka", Spline(recompute=False)),
    "ka-input": ("ka", Spline(sharing="input")),
    "ka-4": ("ka", Spline(sharing=4)),
    "ka-output": ("ka", Spline(sharing="output")),
    "edge": ("edge", Spline()),
    "stacked": ("stacked", Spline()),
    "stacked-free": ("stacked", Spline(input_grad="free")),
}


@dataclass(frozen=True)
class Convolution:
    """One convolution to be built: the arguments that every implementation knows."""

    spatial_dims: int
    in_channels: int
    out_channels: int
    kernel_size: int
    stride: int = 1
    padding: int = 0
    groups: int = 1


@dataclass(frozen=True)
class PeerLayers:
    """The layers of a peer under one name; ``conv`` or ``linear`` is None where it has none. They include the activation."""

    name: str
    linear: Callable[[int, int], nn.Module] | None
    conv: Callable[[Convolution], nn.Module] | None


class Unfolded(nn.Module):
    """A convolution made of a linear layer, one a group, on unfolded windows: how a peer without convolutions is stacked."""

    def __init__(self, linear: Callable[[int, int], nn.Module], conv: Convolution) -> None:
        super().__init__()
        self.conv = conv
        inputs = conv.in_channels // conv.groups * conv.kernel_size**conv.spatial_dims
        self.layers = nn.ModuleList(linear(inputs, conv.out_channels // conv.groups) for _ in range(conv.groups))

    def forward(self, x: Tensor) -> Tensor:
        """``(B, C, *S)`` → ``(B, C', *S')``; the zeros of the padding are inputs like any other here."""
        c = self.conv
        x = F.pad(x, [c.padding] * (2 * c.spatial_dims))
        kernel, stride, dilation = ((n,) * c.spatial_dims for n in (c.kernel_size, c.stride, 1))
        windows, sizes = unfold(x, kernel, stride, dilation, c.groups)  # (groups, N, P)
        outputs = torch.cat([layer(rows) for layer, rows in zip(self.layers, windows, strict=True)], dim=1)
        return outputs.unflatten(0, (len(x), *sizes)).movedim(-1, 1)


class Flattened(nn.Module):
    """A linear layer that knows ``(N, C)`` only, for ``(*, C)``."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        """``(*, C)`` → ``(*, C')``."""
        y = self.layer(x.reshape(-1, x.shape[-1]))
        y = y[0] if isinstance(y, tuple) else y  # pykan returns what it plots, too
        return y.view(*x.shape[:-1], -1)


def with_layers_of(peer: PeerLayers, twin: nn.Module) -> nn.Module:
    """The convolutional twin, every layer exchanged for the peer's and without its fixed activation; changed in place."""
    assert peer.linear is not None
    assert peer.conv is not None
    for name, child in twin.named_children():
        if isinstance(child, nn.Linear):
            setattr(twin, name, Flattened(peer.linear(child.in_features, child.out_features)))
        elif isinstance(child, nn.Conv2d | nn.Conv3d):
            assert not isinstance(child.padding, str)
            sizes = (child.kernel_size[0], child.stride[0], child.padding[0], child.groups)
            dims = len(child.kernel_size)
            setattr(twin, name, peer.conv(Convolution(dims, child.in_channels, child.out_channels, *sizes)))
        elif isinstance(child, Activation):
            setattr(twin, name, nn.Identity())
        else:
            with_layers_of(peer, child)
    return twin


def choose(names: Iterable[str] | None, known: Iterable[str], what: str) -> list[str]:
    """The ``names`` wanted, all that are ``known`` for None; the reference comes first. ``UserError`` for an unknown one.

    >>> choose(["ka"], VARIANTS, "variant")
    ['conv', 'ka']
    """
    known = list(known)
    wanted = known if names is None else list(names)
    for name in wanted:
        if name not in known:
            raise UserError(f"unknown {what} {name!r}: {suggestion(name, known)}")
    return [REFERENCE, *dict.fromkeys(name for name in wanted if name != REFERENCE)]
