"""From an image to masks, whatever makes the probabilities: one trained model or several."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from allukan.data.volumes import CANONICAL, Geometry, Image
from allukan.errors import UserError
from allukan.inference.inputs import VolumeInput, read_input, read_volume_input
from allukan.models import ModelCard, to_masks

Progress = Callable[[int, int], None]
Input = str | Path | Sequence[str | Path] | NDArray[Any] | Image


@dataclass(frozen=True)
class Prediction:
    """Of one image, in its own geometry: ``probabilities`` float32 ``(K', *S)`` and ``masks`` bool ``(K, *S)``.

    K' is K, or K + 1 with the background first for "multiclass" models.
    """

    probabilities: NDArray[np.float32]
    masks: NDArray[np.bool_]


class Segmenter(ABC):
    """Makes masks of images of any size.

    Attributes:
        card: which images it takes, and what its classes are.
        mode: "resize" or "sliding".
        tta: whether probabilities are averaged over mirrored images.
    """

    card: ModelCard
    mode: str
    tta: bool

    @abstractmethod
    def of_picture(self, picture: NDArray[Any]) -> Tensor:
        """Probabilities ``(1, K', H, W)`` of ``(H, W, C)``: bytes, or values where the model was trained on such."""

    @abstractmethod
    def planes(self, volume: VolumeInput, tick: Callable[[], None]) -> Iterator[Tensor]:
        """Probabilities ``(K', H, W)`` of every plane of a volume, in its turned geometry; ``tick`` is called after a window."""

    @abstractmethod
    def windows(self, volume: VolumeInput) -> int:
        """How often ``planes`` calls ``tick``."""

    def __call__(self, image: Input) -> Prediction:
        """Masks and probabilities of a file, of a list of the files of one image, or of an array ``(H, W[, C])``: of bytes, or of
        any numbers where the model was trained on images of more than 8 bits.

        A model that was trained on several files an image takes them together, in the order of ``card.files``. Grey becomes RGB
        where the model was trained on files in RGB, RGB without colour becomes grey. Raises ``UserError`` for everything else
        that it was not trained on. Of volumes also an ``Image``, as ``allukan.data.volumes`` reads it.
        """
        if self.card.spatial_dims == 3:
            numbers, found = self.number(image, np.float32)
            assert found is not None
            return Prediction(found, unnumbered(numbers, self.card))
        if isinstance(image, Image):
            raise UserError("a path, a list of paths or an array is expected, got a volume.")
        probability = self.of_picture(read_input(image, self.card))
        masks = to_masks(probability, self.card.target, self.card.threshold)
        return Prediction(probability[0].cpu().numpy(), masks[0].cpu().numpy())

    def masks(self, image: Input) -> NDArray[np.bool_]:
        """As ``self(image).masks``, without the probabilities of a volume in memory."""
        return unnumbered(self.number(image)[0], self.card) if self.card.spatial_dims == 3 else self(image).masks

    def number(
        self, image: Input, keep: type[np.floating] | None = None, progress: Progress = lambda done, total: None
    ) -> tuple[NDArray[np.unsignedinteger], NDArray[Any] | None]:
        """The numbers of the classes of a volume, as ``numbered`` has them, and probabilities ``(K', *S)`` of the type ``keep``.

        Without ``keep`` memory holds probabilities of as many planes as a window is deep, whatever the number of classes.
        ``progress`` is told how many windows are done, and of how many.
        """
        volume = read_volume_input(image, self.card)
        turned = VolumeInput(volume)
        total, done = self.windows(turned), 0

        def tick() -> None:
            nonlocal done
            done += 1
            progress(done, total)

        return number_planes(self.planes(turned, tick), volume.geometry, self.card, keep)


def number_planes(
    planes: Iterable[Tensor], geometry: Geometry, card: ModelCard, keep: type[np.floating] | None = None
) -> tuple[NDArray[np.unsignedinteger], NDArray[Any] | None]:
    """Probabilities ``(K', H, W)`` of every plane of a turned volume → its ``number``, turned back to ``geometry``."""
    turn = geometry.axes_to(CANONICAL[3])
    layers = len(card.classes) if card.target == "multilabel" else 1
    numbers = np.empty((layers, *geometry.shape), np.min_scalar_type(len(card.classes)))
    kept = np.empty((card.out_channels, *geometry.shape), keep) if keep else None
    for place, plane in enumerate(planes):
        masks = to_masks(plane[None], card.target, card.threshold)[0]
        turn.apply(numbers)[:, place] = numbered(masks.cpu().numpy(), card)
        if kept is not None:
            turn.apply(kept)[:, place] = plane.cpu().numpy()
    return numbers, kept


def numbered(masks: NDArray[np.bool_], card: ModelCard) -> NDArray[np.unsignedinteger]:
    """Masks ``(K, *S)`` → ``(1, *S)`` from 0 to K, 0 where no class is, in the smallest type that holds K.

    For "multilabel", whose masks overlap, ``(K, *S)`` of 0 and 1.
    """
    kind = np.min_scalar_type(len(masks))
    if card.target == "multilabel":
        return masks.astype(kind)
    found = np.zeros((1, *masks.shape[1:]), kind)
    for number, mask in enumerate(masks, 1):
        found[0][mask] = number
    return found


def unnumbered(numbers: NDArray[np.unsignedinteger], card: ModelCard) -> NDArray[np.bool_]:
    """The way back."""
    return numbers > 0 if card.target == "multilabel" else np.stack([numbers[0] == k for k in range(1, len(card.classes) + 1)])
