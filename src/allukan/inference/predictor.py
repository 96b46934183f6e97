"""A trained model as a function from an image to masks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from allukan.data import as_input, resampled, resize_image
from allukan.data.volumes import CANONICAL, Image
from allukan.errors import UserError, suggestion
from allukan.inference.fusion import fuse
from allukan.inference.inputs import read_input, read_volume_input
from allukan.models import load_model, pick_device, probabilities, slide, to_masks
from allukan.models.layers import resize

MODES = ("resize", "sliding")


@dataclass(frozen=True)
class Prediction:
    """Of one image, in its own geometry: ``probabilities`` float32 ``(K', *S)`` and ``masks`` bool ``(K, *S)``.

    K' is K, or K + 1 with the background first for "multiclass" models.
    """

    probabilities: NDArray[np.float32]
    masks: NDArray[np.bool_]


class Predictor:
    """Applies the model of a folder that a training wrote to images of any size.

    Args:
        model: the folder, ``RUN/model``.
        device: "cpu", "cuda", "cuda:1" …, or "auto".
        mode: "resize", the default for pictures, scales the image to the size of the training and the probabilities back;
            "sliding" moves a window of that size over the image as it is (half overlapping, Gaussian weights; MONAI), for images
            at the scale of the training. So are volumes predicted, with voxels of the size of the training.
        tta: the mean of the probabilities over the flips of all axes (four passes; eight of volumes), test-time augmentation by
            mirroring.
        trust: import the code that the folder of a foreign model names (``package.module:function``).

    Raises ``UserError`` for a folder that is no model, an unknown mode and a device that is not there.
    """

    def __init__(
        self, model: str | Path, device: str = "auto", mode: str | None = None, tta: bool = False, trust: bool = False
    ) -> None:
        if mode is not None and mode not in MODES:
            raise UserError(f"unknown mode {mode!r}: {suggestion(mode, MODES)}")
        self.device = pick_device(device)
        self.model, self.card = load_model(model, self.device, trust)
        self._network = fuse(self.model)  # the same function; ``model`` stays as it was trained, for those who look at it
        volumes = self.card.spatial_dims == 3
        if volumes and mode == "resize":
            raise UserError(f"{model} was trained on volumes, which are predicted by a sliding window: leave mode resize out.")
        self.mode, self.tta = mode or ("sliding" if volumes else "resize"), tta
        self._mean, self._std = (torch.tensor(v, device=self.device).view(1, -1, 1, 1) for v in (self.card.mean, self.card.std))

    def __call__(self, image: str | Path | Sequence[str | Path] | NDArray[np.uint8] | Image) -> Prediction:
        """Masks and probabilities of a file, of a list of the files of one image, or of an array of bytes ``(H, W[, C])``.

        A model that was trained on several files an image takes them together, in the order of ``card.files``. Grey becomes RGB
        where the model was trained on files in RGB, RGB without colour becomes grey. Raises ``UserError`` for everything else
        that it was not trained on. Of volumes also an ``Image``, as ``allukan.data.volumes`` reads it.
        """
        if self.card.spatial_dims == 3:
            return self._of_volume(read_volume_input(image, self.card))
        if isinstance(image, Image):
            raise UserError("a path, a list of paths or an array of bytes is expected, got a volume.")
        array = read_input(image, self.card)
        scaled = resize_image(array, self.card.size) if self.mode == "resize" else array
        probability = self.probabilities(torch.from_numpy(scaled.copy()).permute(2, 0, 1).unsqueeze(0))
        return self._decided(probability, array.shape[:2])

    @torch.inference_mode()
    def _of_volume(self, image: Image) -> Prediction:
        """Turned, normalised and with other voxels as in training, and all the way back."""
        turned = as_input(image, self.card.intensities)
        scaled = torch.from_numpy(resampled(turned, self.card.spacing_mm).array).unsqueeze(0)
        found = self._decided(self._averaged(scaled), turned.geometry.shape)
        back = image.geometry.axes_to(CANONICAL[3]).inverse
        return Prediction(*(np.ascontiguousarray(back.apply(part)) for part in (found.probabilities, found.masks)))

    def _decided(self, probability: Tensor, shape: tuple[int, ...]) -> Prediction:
        """Of probabilities ``(1, K', *S)`` at the network's own scale, at ``shape``."""
        if not probability.isfinite().all():  # a mask of them would be empty, and look like one
            raise UserError(f"the model {self.card.model!r} answers with numbers that are not finite: train it again.")
        probability = resize(probability, shape)
        masks = to_masks(probability, self.card.target, self.card.threshold)
        return Prediction(probability[0].cpu().numpy(), masks[0].cpu().numpy())

    @torch.inference_mode()
    def probabilities(self, images: Tensor) -> Tensor:
        """Bytes ``(B, C, H, W)`` at the network's own scale → probabilities ``(B, K', H, W)``; else ``UserError``."""
        if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[1] != self.card.in_channels:
            given = f"{str(images.dtype).removeprefix('torch.')} {tuple(images.shape)}"
            raise UserError(f"bytes (B, {self.card.in_channels}, H, W) are expected, got {given}.")
        return self._averaged(self.normalised(images))

    def _averaged(self, x: Tensor) -> Tensor:
        """Probabilities of what the network is given, with ``tta`` their mean over all flips of the axes."""
        axes = range(2, x.ndim) if self.tta else ()
        flips = [flip for count in range(len(axes) + 1) for flip in combinations(axes, count)]
        return torch.stack([self._once(x.flip(f)).flip(f) for f in flips]).mean(0)

    def normalised(self, images: Tensor) -> Tensor:
        """Bytes → what the network is given, on its device."""
        return (images.to(self.device, torch.float32) / 255 - self._mean) / self._std

    def _once(self, x: Tensor) -> Tensor:
        if self.mode == "resize":
            return probabilities(self._network(x), self.card.target)
        return probabilities(slide(self._network, x, self.card.size, self.device), self.card.target)
