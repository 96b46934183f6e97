"""A trained model as a function from an image to masks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import combinations
from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from allukan.errors import UserError, suggestion
from allukan.inference.fusion import fuse
from allukan.inference.inputs import VolumeInput, network_input
from allukan.inference.segmenter import Segmenter
from allukan.inference.streaming import plane_logits, resized_planes, window_count
from allukan.models import load_model, pick_device, probabilities, slide
from allukan.models.layers import resize

MODES = ("resize", "sliding")


class Predictor(Segmenter):
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

    def of_picture(self, picture: NDArray[Any]) -> Tensor:
        """Probabilities ``(1, K', H, W)`` of ``(H, W, C)``: bytes, or values where the model was trained on such."""
        size = self.card.size if self.mode == "resize" else None
        found = self.probabilities(network_input([picture], self.card, size))
        return resize(self._finite(found), picture.shape[:2])

    @torch.inference_mode()
    def planes(self, volume: VolumeInput, tick: Callable[[], None]) -> Iterator[Tensor]:
        """Probabilities ``(K', H, W)`` of every plane: those of the flips together, and with voxels as in training before."""
        scaled = volume.of(self.card)
        passes = [
            plane_logits(self._network, scaled, self.card.size, self.device, [axis - 2 for axis in flip], tick)
            for flip in self._flips(5)
        ]
        averaged = (
            self._finite(torch.stack([probabilities(plane[None], self.card.target)[0] for plane in planes]).mean(0))
            for planes in zip(*passes, strict=True)
        )
        yield from resized_planes(averaged, scaled.shape[1:], volume.geometry.shape)

    def windows(self, volume: VolumeInput) -> int:
        """Of all passes."""
        return window_count(volume.geometry.shape_at(self.card.spacing_mm), self.card.size) * len(self._flips(5))

    def _finite(self, probability: Tensor) -> Tensor:
        if not probability.isfinite().all():  # a mask of them would be empty, and look like one
            raise UserError(f"the model {self.card.model!r} answers with numbers that are not finite: train it again.")
        return probability

    @torch.inference_mode()
    def probabilities(self, images: Tensor) -> Tensor:
        """``network_input`` ``(B, C, H, W)`` at the network's own scale → probabilities ``(B, K', H, W)``; else ``UserError``."""
        wanted = torch.uint8 if self.card.in_bytes else torch.float32
        if images.dtype != wanted or images.ndim != 4 or images.shape[1] != self.card.in_channels:
            given = f"{str(images.dtype).removeprefix('torch.')} {tuple(images.shape)}"
            kind = "bytes" if self.card.in_bytes else "normalised float32"
            raise UserError(f"{kind} (B, {self.card.in_channels}, H, W) are expected, got {given}.")
        x = self.normalised(images)
        return torch.stack([self._once(x.flip(f)).flip(f) for f in self._flips(x.ndim)]).mean(0)

    def _flips(self, dims: int) -> list[tuple[int, ...]]:
        """The axes of ``(B, C, *S)`` that are mirrored in each pass."""
        axes = range(2, dims) if self.tta else ()
        return [flip for count in range(len(axes) + 1) for flip in combinations(axes, count)]

    def normalised(self, images: Tensor) -> Tensor:
        """``network_input`` → what the network is given, on its device: of floats nothing is left to do."""
        images = images.to(self.device, torch.float32)
        return (images / 255 - self._mean) / self._std if self.card.in_bytes else images

    def _once(self, x: Tensor) -> Tensor:
        if self.mode == "resize":
            return probabilities(self._network(x), self.card.target)
        return probabilities(slide(self._network, x, self.card.size, self.device), self.card.target)
