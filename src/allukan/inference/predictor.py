"""A trained model as a function from an image to masks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from monai.inferers import sliding_window_inference
from numpy.typing import NDArray
from torch import Tensor

from allukan.data import resize_image
from allukan.errors import UserError, suggestion
from allukan.inference.fusion import fuse
from allukan.inference.inputs import read_input
from allukan.models import load_model, pick_device, probabilities, to_masks
from allukan.models.layers import resize

MODES = ("resize", "sliding")


@dataclass(frozen=True)
class Prediction:
    """Of one image, in its own geometry: ``probabilities`` float32 ``(K', H, W)`` and ``masks`` bool ``(K, H, W)``.

    K' is K, or K + 1 with the background first for "multiclass" models.
    """

    probabilities: NDArray[np.float32]
    masks: NDArray[np.bool_]


class Predictor:
    """Applies the model of a folder that a training wrote to images of any size.

    Args:
        model: the folder, ``RUN/model``.
        device: "cpu", "cuda", "cuda:1" …, or "auto".
        mode: "resize" scales the image to the size of the training and the probabilities back; "sliding" moves a window of that
            size over the image as it is (half overlapping, Gaussian weights; MONAI), for images at the scale of the training.
        tta: the mean of the probabilities over the flips of height and width (four passes), test-time augmentation by mirroring.
        trust: import the code that the folder of a foreign model names (``package.module:function``).

    Raises ``UserError`` for a folder that is no model, an unknown mode and a device that is not there.
    """

    def __init__(
        self, model: str | Path, device: str = "auto", mode: str = "resize", tta: bool = False, trust: bool = False
    ) -> None:
        if mode not in MODES:
            raise UserError(f"unknown mode {mode!r}: {suggestion(mode, MODES)}")
        self.device = pick_device(device)
        self.model, self.card = load_model(model, self.device, trust)
        self._network = fuse(self.model)  # the same function; ``model`` stays as it was trained, for those who look at it
        self.mode, self.tta = mode, tta
        self._mean, self._std = (torch.tensor(v, device=self.device).view(1, -1, 1, 1) for v in (self.card.mean, self.card.std))

    def __call__(self, image: str | Path | Sequence[str | Path] | NDArray[np.uint8]) -> Prediction:
        """Masks and probabilities of a file, of a list of the files of one image, or of an array of bytes ``(H, W[, C])``.

        A model that was trained on several files an image takes them together, in the order of ``card.files``. Grey becomes RGB
        where the model was trained on files in RGB, RGB without colour becomes grey. Raises ``UserError`` for everything else
        that it was not trained on.
        """
        array = read_input(image, self.card)
        scaled = resize_image(array, self.card.size) if self.mode == "resize" else array
        probability = self.probabilities(torch.from_numpy(scaled.copy()).permute(2, 0, 1).unsqueeze(0))
        if not probability.isfinite().all():  # a mask of them would be empty, and look like one
            raise UserError(f"the model {self.card.model!r} answers with numbers that are not finite: train it again.")
        probability = resize(probability, array.shape[:2])
        masks = to_masks(probability, self.card.target, self.card.threshold)
        return Prediction(probability[0].cpu().numpy(), masks[0].cpu().numpy())

    @torch.inference_mode()
    def probabilities(self, images: Tensor) -> Tensor:
        """Bytes ``(B, C, H, W)`` at the network's own scale → probabilities ``(B, K', H, W)``; else ``UserError``."""
        if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[1] != self.card.in_channels:
            given = f"{str(images.dtype).removeprefix('torch.')} {tuple(images.shape)}"
            raise UserError(f"bytes (B, {self.card.in_channels}, H, W) are expected, got {given}.")
        x = self.normalised(images)
        flips = [(), (2,), (3,), (2, 3)] if self.tta else [()]
        return torch.stack([self._once(x.flip(f)).flip(f) for f in flips]).mean(0)

    def normalised(self, images: Tensor) -> Tensor:
        """Bytes → what the network is given, on its device."""
        return (images.to(self.device, torch.float32) / 255 - self._mean) / self._std

    def _once(self, x: Tensor) -> Tensor:
        if self.mode == "resize":
            return probabilities(self._network(x), self.card.target)
        logits = sliding_window_inference(x, self.card.size, 4, self._network, overlap=0.5, mode="gaussian")
        assert isinstance(logits, Tensor)
        return probabilities(logits, self.card.target)
