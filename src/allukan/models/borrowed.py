"""The usual networks to compare with, from the libraries that define them: MONAI and nnU-Net's dynamic-network-architectures.

Their packages are imported when such a network is built, not before.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from allukan.errors import UserError, shown
from allukan.models.layers import NORMS
from allukan.models.skeleton import check_input
from allukan.options import LARGEST_COUNT

_NNUNET_CHANNELS = {2: (32, 64, 128, 256, 512, 512, 512), 3: (32, 64, 128, 256, 320, 320)}  # its plans for 256² and 128³
_LEVELS = 16  # halvings of an image at most
_RESIDUAL_BLOCKS = (1, 3, 4, 6)  # a stage of nnU-Net's ResEnc presets; 6 in all that follow


class Padded(nn.Module):
    """A network of another library for any input size: zeros are added at the far ends, and cut off its output.

    A size becomes a multiple of ``factor``, and at least twice it: norms need more than one value at the bottom.
    """

    def __init__(self, network: nn.Module, in_channels: int, out_channels: int, spatial_dims: int, factor: int) -> None:
        super().__init__()
        self.network, self.factor = network, factor
        self.in_channels, self.out_channels, self.spatial_dims = in_channels, out_channels, spatial_dims

    def forward(self, x: Tensor) -> Tensor:
        """``(B, in_channels, *S)`` → logits ``(B, out_channels, *S)``; ``ValueError`` for another number of channels."""
        check_input(x, self.in_channels, self.spatial_dims)
        sizes = x.shape[2:]
        lacking = [self._padded(n) - n for n in sizes]
        y = self.network(F.pad(x, [w for n in reversed(lacking) for w in (0, n)]))
        y = y[-1] if isinstance(y, list) else y  # MONAI's U-Net++: one for each depth, the last is the deepest
        return F.pad(y, [w for n in reversed(lacking) for w in (0, -n)])  # a slice is a view, of which exporters see one size

    def _padded(self, size: Any) -> Any:
        """A size after padding; ``torch.jit.trace`` gives a tensor, of which ``max`` would be a constant."""
        multiple = (size + self.factor - 1) // self.factor * self.factor  # ONNX rounds a negative number the other way
        return multiple.clamp(min=2 * self.factor) if isinstance(multiple, Tensor) else max(2 * self.factor, multiple)


def unet(
    in_channels: int,
    out_channels: int,
    spatial_dims: int = 2,
    channels: Sequence[int] = (64, 128, 256, 512, 1024),
    norm: str = "batch",
) -> nn.Module:
    """U-Net (arXiv 1505.04597): MONAI's ``BasicUNet`` with ReLU and a norm; 31.1 M parameters (3 channels, 1 class, 2D).

    ``channels`` are the widths of the five levels, ``norm`` is "batch", "instance" or "group".

    >>> import torch
    >>> unet(3, 1, channels=(4, 4, 8, 8, 16))(torch.zeros(1, 3, 50, 37)).shape
    torch.Size([1, 1, 50, 37])
    """
    from monai.networks.nets import BasicUNet

    widths = _checked(channels, spatial_dims, 5)
    network = BasicUNet(spatial_dims, in_channels, out_channels, (*widths, widths[0]), "relu", _monai_norm(norm, widths))
    return Padded(network, in_channels, out_channels, spatial_dims, 16)


def unetpp(
    in_channels: int,
    out_channels: int,
    spatial_dims: int = 2,
    channels: Sequence[int] = (32, 64, 128, 256, 512),
    norm: str = "batch",
) -> nn.Module:
    """U-Net++ (arXiv 1807.10165) without deep supervision: MONAI's ``BasicUNetPlusPlus``; options as ``unet``.

    >>> import torch
    >>> unetpp(3, 1, channels=(4, 4, 8, 8, 16))(torch.zeros(1, 3, 50, 37)).shape
    torch.Size([1, 1, 50, 37])
    """
    from monai.networks.nets import BasicUNetPlusPlus

    widths = _checked(channels, spatial_dims, 5)
    options = {"act": "relu", "norm": _monai_norm(norm, widths)}
    network = BasicUNetPlusPlus(spatial_dims, in_channels, out_channels, (*widths, widths[0]), **options)
    for head in ("final_conv_0_1", "final_conv_0_2", "final_conv_0_3"):  # of deep supervision: nothing trains them
        setattr(network, head, nn.Identity())
    return Padded(network, in_channels, out_channels, spatial_dims, 16)


def attention_unet(
    in_channels: int,
    out_channels: int,
    spatial_dims: int = 2,
    channels: Sequence[int] = (64, 128, 256, 512, 1024),
) -> nn.Module:
    """Attention U-Net (arXiv 1804.03999): MONAI's ``AttentionUnet``; ``channels`` are the widths of its levels, two or more.

    >>> import torch
    >>> attention_unet(3, 1, channels=(4, 8, 16))(torch.zeros(1, 3, 50, 37)).shape
    torch.Size([1, 1, 50, 37])
    """
    from monai.networks.nets import AttentionUnet

    widths = _checked(channels, spatial_dims)
    network = AttentionUnet(spatial_dims, in_channels, out_channels, widths, (2,) * (len(widths) - 1))
    return Padded(network, in_channels, out_channels, spatial_dims, 2 ** (len(widths) - 1))


def plainconv(in_channels: int, out_channels: int, spatial_dims: int = 2, channels: Sequence[int] | None = None) -> nn.Module:
    """nnU-Net's default ``PlainConvUNet``, as it plans it for 256² or 128³: two convolutions a stage.

    ``channels`` are the widths of the stages, two or more. Raises ``UserError`` without dynamic-network-architectures.
    """
    options = {"n_conv_per_stage": 2, "n_conv_per_stage_decoder": 2}
    return _nnunet("PlainConvUNet", in_channels, out_channels, spatial_dims, _stages(channels, spatial_dims), options)


def resenc(in_channels: int, out_channels: int, spatial_dims: int = 2, channels: Sequence[int] | None = None) -> nn.Module:
    """nnU-Net's ``ResidualEncoderUNet`` (arXiv 2404.09556), ResEnc M for 256² or 128³; the rest as ``plainconv``."""
    stages = _stages(channels, spatial_dims)
    blocks = [*_RESIDUAL_BLOCKS, *[6] * len(stages)][: len(stages)]
    options = {"n_blocks_per_stage": blocks, "n_conv_per_stage_decoder": 1}
    return _nnunet("ResidualEncoderUNet", in_channels, out_channels, spatial_dims, stages, options)


def _nnunet(
    kind: str, in_channels: int, out_channels: int, spatial_dims: int, stages: tuple[int, ...], options: dict[str, Any]
) -> nn.Module:
    try:
        from dynamic_network_architectures.architectures import unet as architectures
    except ImportError:
        raise UserError(
            f"{kind} needs the package dynamic-network-architectures: pip install 'allukan[nnunet-nets]', or, to do without its "
            "timm and torchvision, which are not used here, pip install --no-deps dynamic-network-architectures."
        ) from None
    build = getattr(architectures, kind)
    network = build(
        in_channels,
        len(stages),
        stages,
        {2: nn.Conv2d, 3: nn.Conv3d}[spatial_dims],
        3,
        (1, *[2] * (len(stages) - 1)),
        num_classes=out_channels,
        conv_bias=True,
        norm_op={2: nn.InstanceNorm2d, 3: nn.InstanceNorm3d}[spatial_dims],
        norm_op_kwargs={"eps": 1e-5, "affine": True},
        nonlin=nn.LeakyReLU,
        nonlin_kwargs={"inplace": True},
        **options,
    )
    network.apply(network.initialize)
    register_once(network)
    for i in range(len(stages) - 2):  # of deep supervision: nothing trains them
        network.decoder.seg_layers[i] = nn.Identity()
    return Padded(network, in_channels, out_channels, spatial_dims, 2 ** (len(stages) - 1))


def register_once(network: Any) -> None:
    """Let a U-Net of nnU-Net hold its modules once, in place: the decoder registers the encoder too, and blocks their layers."""
    from dynamic_network_architectures.building_blocks.simple_conv_blocks import ConvDropoutNormReLU

    del network.decoder.encoder
    for block in [module for module in network.modules() if isinstance(module, ConvDropoutNormReLU)]:
        for name in [name for name, _ in block.named_children() if name != "all_modules"]:
            delattr(block, name)


def _stages(channels: Sequence[int] | None, spatial_dims: int) -> tuple[int, ...]:
    return _checked(_NNUNET_CHANNELS.get(spatial_dims, ()) if channels is None else channels, spatial_dims)


def _checked(channels: Sequence[int], spatial_dims: int, levels: int | None = None) -> tuple[int, ...]:
    """The widths as a tuple; ``ValueError`` unless there are as many as ``levels``, or two or more, for 2 or 3 dimensions."""
    if spatial_dims not in (2, 3):
        raise ValueError(f"spatial_dims must be 2 or 3, got {spatial_dims}")
    widths = tuple(channels) if isinstance(channels, list | tuple) else ()
    if any(isinstance(width, bool) or not isinstance(width, int) for width in widths) or not widths:
        raise ValueError(f"channels must be whole numbers, got {channels!r}")
    if (len(widths) != levels if levels else len(widths) < 2) or min(widths) < 1:
        raise ValueError(f"channels must be {levels or 'two or more'} widths above 0, got {list(widths)}")
    if max(widths) > LARGEST_COUNT or len(widths) > _LEVELS:
        raise ValueError(f"channels must be at most {_LEVELS} widths of at most {LARGEST_COUNT}, got {shown(list(widths))}")
    return widths


def _monai_norm(norm: str, widths: tuple[int, ...]) -> Any:
    if norm not in NORMS:
        raise ValueError(f"unknown norm {norm!r}; choose one of {', '.join(NORMS)}")
    groups = math.gcd(8, *widths)
    return {"batch": "batch", "instance": ("instance", {"affine": True}), "group": ("group", {"num_groups": groups})}[norm]
