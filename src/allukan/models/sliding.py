"""A network moved over an image that is larger than it was trained on."""

from __future__ import annotations

from collections.abc import Callable

import torch
from monai.inferers import sliding_window_inference
from torch import Tensor

_BUFFERED = 4  # rows of windows that stay on another device before their sum goes to where the image lies


def slide(
    network: Callable[[Tensor], Tensor], images: Tensor, size: tuple[int, ...], device: torch.device | None = None
) -> Tensor:
    """Logits ``(B, K', *S)`` of images ``(B, C, *S)``, in windows of ``size``, half overlapping, with Gaussian weights (MONAI).

    Where a side is shorter than the window zeros go around it, as in training. Windows are computed on ``device``; image and
    logits stay where the image is, so that a GPU need not hold a volume.
    """
    elsewhere = device is not None and device != images.device
    logits = sliding_window_inference(
        images,
        size,
        4 if len(size) == 2 else 1,  # a window of a volume is as much as many of a picture
        network,
        overlap=0.5,
        mode="gaussian",
        sw_device=device,
        buffer_steps=_BUFFERED if elsewhere else None,
    )
    assert isinstance(logits, Tensor)
    return logits


def middle(images: Tensor, size: tuple[int, ...]) -> Tensor:
    """The middle of images ``(B, C, *S)``, no larger than ``size``: of volumes a network takes no more at once.

    >>> middle(torch.arange(6).view(1, 1, 1, 6), (4, 4)).flatten().tolist()
    [1, 2, 3, 4]
    """
    for axis, (have, want) in enumerate(zip(images.shape[2:], size, strict=True), 2):
        images = images.narrow(axis, max(0, have - want) // 2, min(have, want))
    return images
