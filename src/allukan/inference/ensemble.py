"""Several trained models as one: the mean of their probabilities."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from allukan.errors import UserError
from allukan.inference.inputs import VolumeInput
from allukan.inference.predictor import Predictor
from allukan.inference.segmenter import Segmenter

_SHARED = ("spatial_dims", "in_channels", "image_files", "classes", "target", "label_values", "threshold", "in_bytes")


class Ensemble(Segmenter):
    """The mean of the probabilities of several predictors, in the geometry of the image, as of the folds of a training.

    Each brings an image to its own size or voxels. Raises ``UserError`` for none at all, and where they differ in what they take
    or in their classes.
    """

    def __init__(self, members: Sequence[Predictor]) -> None:
        if not members:
            raise UserError("an ensemble needs one model at least.")
        self.members = tuple(members)
        self.card, self.mode, self.tta = members[0].card, members[0].mode, members[0].tta
        for number, member in enumerate(members):
            odd = next((name for name in _SHARED if getattr(member.card, name) != getattr(self.card, name)), None)
            if odd:
                raise UserError(f"models 0 and {number} differ in {odd}, and their probabilities have no mean: predict with one.")

    @torch.inference_mode()
    def of_picture(self, picture: NDArray[Any]) -> Tensor:
        """Probabilities ``(1, K', H, W)`` of ``(H, W, C)``."""
        return torch.stack([member.of_picture(picture) for member in self.members]).mean(0)

    @torch.inference_mode()
    def planes(self, volume: VolumeInput, tick: Callable[[], None]) -> Iterator[Tensor]:
        """Probabilities ``(K', H, W)`` of every plane of a volume; the members go through it side by side."""
        for planes in zip(*(member.planes(volume, tick) for member in self.members), strict=True):
            yield torch.stack(planes).mean(0)

    def windows(self, volume: VolumeInput) -> int:
        """Of all members."""
        return sum(member.windows(volume) for member in self.members)
