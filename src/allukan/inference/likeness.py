"""Whether an image is like those that a model was validated on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray

from allukan.inference.activations import Measured
from allukan.inference.inputs import network_input, read_input
from allukan.inference.predictor import Predictor
from allukan.inference.segmenter import Segmenter
from allukan.models import load_likeness, save_likeness
from allukan.nn.likeness import Likeness, calibrate

IMAGES = 200  # of the validation set at most, evenly drawn, each an evaluation of the network


class LikenessCheck:
    """The *likeness* score (``nn.likeness``) of images, by the model of a predictor and the folder that it was loaded from.

    A score above ``threshold`` says that the image is unlike the validation images of the training; at most one in twenty of
    further images like them has one. Below it an image may still be another one than it seems: see ``docs/atlas.md``.

    Raises ``UserError`` for a ``likeness.safetensors`` of another model, and in a call as the predictor does.
    """

    def __init__(self, predictor: Predictor, likeness: Likeness) -> None:
        self.predictor, self.likeness = predictor, likeness
        self.threshold = likeness.threshold()

    @classmethod
    def of(cls, predictor: Segmenter, folder: str | Path) -> LikenessCheck | None:
        """None where the folder, RUN/model or RUN, keeps no ``likeness.safetensors``, which ``allukan inspect RUN/model --atlas``
        writes, and for an ensemble, which has no such file.
        """
        if not isinstance(predictor, Predictor):
            return None
        model = Path(folder) / "model"
        likeness = load_likeness(model if model.is_dir() else folder, predictor.model)
        return None if likeness is None else cls(predictor, likeness)

    def __call__(self, image: str | Path | Sequence[str | Path] | NDArray[Any]) -> float:
        """Score of whatever picture the predictor takes, at the size of the training; one more evaluation of the network."""
        card = self.predictor.card
        scaled = network_input([read_input(image, card)], card, card.size)
        return self.likeness.score(self.predictor.model, self.predictor.normalised(scaled))


def keep_likeness(measured: Measured, folder: str | Path) -> Likeness | None:
    """Calibrate on the validation images that were measured and write ``likeness.safetensors`` into the model folder.

    None where they are not there, or one alone. Raises ``OSError`` where the folder cannot be written.
    """
    images = measured.images
    if images is None or len(images) < 2:
        return None
    chosen = torch.linspace(0, len(images) - 1, min(len(images), IMAGES)).round().long().tolist()
    normalised = measured.predictor.normalised
    likeness = calibrate(measured.predictor.model, [normalised(images[i : i + 1]) for i in chosen])
    save_likeness(folder, likeness)
    return likeness
