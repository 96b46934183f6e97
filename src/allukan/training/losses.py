"""Loss of the three kinds of targets, and the overlap that validation scores come from; ignored pixels count in neither."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
import torch.nn.functional as F
from monai.losses import MaskedDiceLoss
from torch import Tensor, nn

from allukan.data import IGNORED
from allukan.models.layers import resize
from allukan.options import DICE_LOSSES

_PRESENT = 0.75  # mean share of the images that a class is in, below which false alarms on the others must cost Dice


def usual_dice(masks: Iterable[Tensor]) -> tuple[str, str]:
    """What the Dice loss of a training on these masks ``(K, *S)`` is taken of, "image" or "batch", and why it is not "image".

    >>> usual_dice([torch.ones(1, 4, 4), torch.ones(1, 4, 4), torch.zeros(1, 4, 4)])
    ('batch', 'Loss: Dice of whole batches, as a class is in 67 % of the images (--dice).')
    """
    share = float(torch.stack([(mask == 1).flatten(1).any(1).float().mean() for mask in masks]).mean())
    if share >= _PRESENT:
        return "image", ""
    return "batch", f"Loss: Dice of whole batches, as a class is in {100 * share:.0f} % of the images (--dice)."


class SegmentationLoss(nn.Module):
    """Cross-entropy + soft Dice, as U-KAN has them (0.5 · cross-entropy, arXiv 2406.02918) or nnU-Net v2 (cross-entropy).

    "binary" and "multilabel" use a sigmoid a class, "multiclass" a softmax over background and classes; the background has no
    Dice of its own. Pixels whose mask is ``allukan.data.IGNORED`` in any class have no part in either term.

    The Dice loss is ``1 - (2 |p m| + s) / (|p| + |m| + s)`` with s = 1e-5, and ``dice`` says of what. Of a mask without the class
    the fraction is ``s / (|p| + s)``: its loss stays 1 and has next to no slope until all p have vanished, so false alarms cost
    nothing but cross-entropy. Only in a batch that has the class elsewhere do they cost Dice.

    - "image": of an image and class; the mean over both, U-KAN's.
    - "batch": of a class, its sums over all images of the batch; the mean over classes. Every device has its own.
    - "present": as "image", the mean over the images and classes that have any foreground; 0 where there is none.
    - "nnunet": as "batch", with a cross-entropy of weight 1: what nnU-Net v2 takes in two dimensions (``DC_and_CE_loss`` of
      ``MemoryEfficientSoftDiceLoss``); its further clip of the denominator at 1e-8 never acts on one of at least s.

    Raises ``ValueError`` for another ``dice``.

    >>> logits, masks = torch.zeros(2, 1, 4, 4), torch.ones(2, 1, 4, 4)
    >>> round(float(SegmentationLoss("binary")(logits, masks)), 3)  # 0.5 log 2 + (1 - 2·8/24)
    0.68
    """

    def __init__(self, target: str, dice: str = "image") -> None:
        super().__init__()
        if dice not in DICE_LOSSES:
            raise ValueError(f"unknown dice {dice!r}; choose one of {', '.join(DICE_LOSSES)}")
        self.softmax, self.only_present = target == "multiclass", dice == "present"
        self.entropy_weight = 1.0 if dice == "nnunet" else 0.5
        batch = dice in ("batch", "nnunet")
        self.dice = MaskedDiceLoss(smooth_nr=1e-5, smooth_dr=1e-5, batch=batch, reduction="none" if self.only_present else "mean")

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
        return self.entropy_weight * mean + self._dice_loss(probability, truth, weight)

    def _dice_loss(self, probability: Tensor, truth: Tensor, weight: Tensor) -> Tensor:
        losses: Tensor = self.dice(probability, truth, weight)
        if not self.only_present:
            return losses
        there = (truth * weight).flatten(2).any(2).view_as(losses)
        return (losses * there).sum() / there.sum().clamp(min=1)


def deep_loss(loss: nn.Module, levels: Sequence[Tensor], masks: Tensor) -> Tensor:
    """Deep supervision: the mean of a loss over logits of falling resolution, at full size, each of half the finer one's weight.

    >>> deep_loss(nn.MSELoss(), [torch.ones(1, 1, 4, 4), torch.zeros(1, 1, 2, 2)], torch.zeros(1, 1, 4, 4))
    tensor(0.6667)
    """
    losses = [loss(resize(level, masks.shape[2:]), masks) / 2**i for i, level in enumerate(levels)]
    return torch.stack(losses).sum() / sum(0.5**i for i in range(len(losses)))


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
