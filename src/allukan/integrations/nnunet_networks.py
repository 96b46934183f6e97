"""The networks that plans of nnU-Net v2 name: built from what a plan says, with nnU-Net's deep supervision.

nnU-Net calls them with ``input_channels``, ``num_classes``, ``deep_supervision`` and the plan's ``arch_kwargs``, and switches
``network.decoder.deep_supervision``: on, a forward pass gives a list of logits, the finest first, one for each stride but the
first; off, the finest alone. Weights are theirs: nnU-Net applies ``initialize`` only to networks that have it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from allukan.integrations.nnunet import topology_of
from allukan.models import AllUKAN
from allukan.models.borrowed import register_once
from allukan.nn import Spline, convert

_HEADS, _OURS = ".seg_layers.", ".heads."  # nnU-Net does not take over pretrained weights of the first name


class PlannedAllUKAN(AllUKAN):
    """ALL U-KAN with the stages, widths, strides and kernels that nnU-Net planned.

    Args:
        input_channels: of the image.
        num_classes: logits.
        strides: of nnU-Net's stages, the first of them 1.
        kernel_sizes: of nnU-Net's stages.
        features_per_stage: widths of nnU-Net's stages; ours stand between two resolutions, so the last is not used.
        deep_supervision: a list of logits, the finest first, in place of the finest.
        norm: "batch", "instance" or "group".
        spline: options of every KA layer, as of ``AllUKAN``.
        topology: further options of the U-shape, as of ``AllUKAN``.

    >>> network = PlannedAllUKAN(1, 3, [[1, 1], [2, 2], [2, 2]], [[3, 3]] * 3, [4, 6, 8])
    >>> [tuple(y.shape) for y in network(torch.zeros(2, 1, 16, 24))]
    [(2, 3, 16, 24), (2, 3, 8, 12)]
    """

    def __init__(
        self,
        input_channels: int,
        num_classes: int,
        strides: Sequence[Sequence[int]],
        kernel_sizes: Sequence[Sequence[int]],
        features_per_stage: Sequence[int],
        deep_supervision: bool = True,
        norm: str = "instance",
        spline: Mapping[str, Any] | None = None,
        topology: Mapping[str, Any] | None = None,
    ) -> None:
        planned = topology_of(strides, kernel_sizes, features_per_stage) | {"deep_supervision": True}
        shape = {**(topology or {}), **planned}
        super().__init__(input_channels, num_classes, len(strides[0]), spline=spline, norm=norm, topology=shape)
        self.decoder.deep_supervision = deep_supervision  # type: ignore[assignment]  # a module takes any attribute

    def forward(self, x: Tensor) -> Any:
        """``(B, input_channels, *S)`` → logits ``(B, num_classes, *S)``, or the list of them."""
        return self.levels(x) if self.decoder.deep_supervision else super().forward(x)


class ConvertedUNet(nn.Module):
    """A U-Net of nnU-Net as KA layers, the same function at the start (``allukan.convert``).

    Args:
        input_channels: of the image.
        num_classes: logits.
        unet: nnU-Net's class, ``PlainConvUNet`` or ``ResidualEncoderUNet``, or one that is built and used as they are.
        strides: of its stages.
        deep_supervision: a list of logits, the finest first, in place of the finest.
        spline: options of every KA layer, as of ``convert``.
        weights: of such a U-Net that is trained; None starts with nnU-Net's initialisation.
        planned: the other arguments of ``unet``.

    Attributes:
        network: the U-Net with KA layers.
        conversion: what became of its layers.
    """

    def __init__(
        self,
        input_channels: int,
        num_classes: int,
        unet: Callable[..., nn.Module],
        strides: Sequence[Sequence[int]],
        deep_supervision: bool = True,
        spline: Mapping[str, Any] | None = None,
        weights: Mapping[str, Tensor] | None = None,
        **planned: Any,
    ) -> None:
        super().__init__()
        planned |= {"strides": strides, "deep_supervision": True}
        network: Any = unet(input_channels=input_channels, num_classes=num_classes, **planned)
        if weights is None:
            network.apply(network.initialize)
        else:
            network.load_state_dict(weights)
        register_once(network)
        self.network, self.conversion = convert(network, _example(input_channels, strides), Spline().updated(spline))
        self.decoder.deep_supervision = deep_supervision
        self.register_state_dict_post_hook(_with_our_heads)
        self.register_load_state_dict_pre_hook(_with_their_heads)

    @property
    def decoder(self) -> Any:
        """Where nnU-Net switches deep supervision."""
        return self.network.decoder

    def forward(self, x: Tensor) -> Any:
        """``(B, input_channels, *S)`` → logits ``(B, num_classes, *S)``, or the list of them."""
        return self.network(x)


def _example(channels: int, strides: Sequence[Sequence[int]]) -> Tensor:
    """The smallest image with two voxels a side at the bottom; always the same one."""
    sides = [2 * int(torch.tensor(along).prod()) for along in zip(*strides, strict=True)]
    return torch.randn(1, channels, *sides, generator=torch.Generator().manual_seed(0))


def _with_our_heads(module: nn.Module, state: dict[str, Any], prefix: str, metadata: Any) -> None:
    _rename(state, prefix, _HEADS, _OURS)


def _with_their_heads(module: nn.Module, state: dict[str, Any], prefix: str, *rest: Any) -> None:
    _rename(state, prefix, _OURS, _HEADS)


def _rename(state: dict[str, Any], prefix: str, old: str, new: str) -> None:
    for name in [name for name in state if name.startswith(prefix) and old in name]:
        state[name.replace(old, new)] = state.pop(name)
