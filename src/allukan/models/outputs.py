"""From logits to probabilities to masks, one rule for training, evaluation and prediction."""

from __future__ import annotations

import torch
from torch import Tensor


def probabilities(logits: Tensor, target: str) -> Tensor:
    """Logits ``(B, K', *S)`` → probabilities of the same shape, in float32 at least.

    "binary" and "multilabel": a sigmoid a class. "multiclass": a softmax over background (first) and classes.
    """
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    return logits.softmax(1) if target == "multiclass" else logits.sigmoid()


def to_masks(probability: Tensor, target: str, threshold: float = 0.5) -> Tensor:
    """Probabilities ``(B, K', *S)`` → boolean masks of the K foreground classes ``(B, K, *S)``.

    "binary" and "multilabel": above ``threshold``. "multiclass": the most probable of background and classes.

    >>> to_masks(torch.tensor([0.2, 0.5, 0.3]).view(1, 3, 1), "multiclass").flatten().tolist()
    [True, False]
    """
    if target != "multiclass":
        return probability > threshold
    best = probability.argmax(1, keepdim=True)
    return best == torch.arange(1, probability.shape[1], device=probability.device).view(1, -1, *[1] * (probability.ndim - 2))
