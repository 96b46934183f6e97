"""Loss of the three kinds of targets, and the overlap that validation scores come from; ignored pixels count in neither."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from monai.losses import MaskedDiceLoss
from torch import Tensor, nn

from allukan.data import IGNORED


class SegmentationLoss(nn.Module):
    """0.5 · cross-entropy + soft Dice, averaged over images and classes (U-KAN's BCEDiceLoss, arXiv 2406.02918).

    "binary" and "multilabel" use a sigmoid a class, "multiclass" a softmax over background and classes; the background has no
    Dice of its own. Pixels whose mask is ``allukan.data.IGNORED`` in any class have no part in either term.

    >>> logits, masks = torch.zeros(2, 1, 4, 4), torch.ones(2, 1, 4, 4)
    >>> round(float(SegmentationLoss("binary")(logits, masks)), 3)  # 0.5 log 2 + (1 - 2·8/24)
    0.68
    """

    def __init__(self, target: str) -> None:
        super().__init__()
        self.softmax = target == "multiclass"
        self.dice = MaskedDiceLoss(smooth_nr=1e-5, smooth_dr=1e-5)

    def forward(self, logits: Tensor, masks: Tensor) -> Tensor:
        """Logits ``(B, K or K + 1, *S)`` and masks ``(B, K, *S)`` of 0, 1 and ``IGNORED`` → a scalar, in float32 at least."""
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        truth, counts = split_ignored(masks)
        truth, weight = truth.to(logits.dtype), counts.to(logits.dtype)
        if self.softmax:
            entropy = F.cross_entropy(logits, class_index(truth), reduction="none").unsqueeze(1)
            probability = logits.softmax(1)[:, 1:]
        else:
            entropy = F.binary_cross_entropy_with_logits(logits, truth, reduction="none").mean(1, keepdim=True)
            probability = logits.sigmoid()
        mean = (entropy * weight).sum() / weight.sum().clamp(min=1)
        return 0.5 * mean + self.dice(probability, truth, weight)


def split_ignored(masks: Tensor) -> tuple[Tensor, Tensor]:
    """Masks ``(B, K, *S)`` of 0, 1 and ``IGNORED`` → true and false, and where they count, ``(B, 1, *S)``."""
    return masks == 1, ~(masks == IGNORED).any(1, keepdim=True)


def class_index(masks: Tensor) -> Tensor:
    """``(B, K, *S)`` of 0 and 1, at most one 1 a pixel → ``(B, *S)`` with 0 for background, class k as k + 1.

    >>> class_index(torch.eye(2).view(1, 2, 2))
    tensor([[1, 2]])
    """
    return torch.where(masks.bool().any(1), masks.argmax(1) + 1, 0)


def overlap(prediction: Tensor, truth: Tensor) -> tuple[Tensor, Tensor]:
    """Intersection and union in pixels, each ``(B, K)``, of boolean masks ``(B, K, *S)``."""
    return (prediction & truth).flatten(2).sum(-1), (prediction | truth).flatten(2).sum(-1)
