"""Whether an image is like those that a model was validated on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

from numpy.typing import NDArray

from allukan.data.volumes import Image
from allukan.inference.activations import Measured
from allukan.inference.inputs import VolumeInput, network_input, read_input, read_volume_input
from allukan.inference.predictor import Predictor
from allukan.inference.segmenter import Segmenter
from allukan.models import calibrate_likeness, load_likeness, middle
from allukan.nn.likeness import Likeness


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
        """None where the folder, RUN/model or RUN, keeps no ``likeness.safetensors``, as of few validation images or of an older
        version, and for an ensemble, which has no such file.
        """
        if not isinstance(predictor, Predictor):
            return None
        model = Path(folder) / "model"
        likeness = load_likeness(model if model.is_dir() else folder, predictor.model)
        return None if likeness is None else cls(predictor, likeness)

    def __call__(self, image: str | Path | Sequence[str | Path] | NDArray[Any] | Image) -> float:
        """Score of whatever the predictor takes; one more evaluation of the network.

        Of pictures at the size of the training, of volumes by a window in their middle.
        """
        predictor, card = self.predictor, self.predictor.card
        if card.spatial_dims == 3:
            volume = VolumeInput(read_volume_input(image, card)).of(card)
            return self.likeness.score(predictor.model, middle(volume.unsqueeze(0), card.size).to(predictor.device))
        scaled = network_input([read_input(cast(Any, image), card)], card, card.size)
        return self.likeness.score(predictor.model, predictor.normalised(scaled))

    def row(self, name: str, image: NDArray[Any] | Image) -> dict[str, Any]:
        """Of ``likeness.csv``, for the image of this name."""
        score = self(image)
        return {"id": name, "score": score, "threshold": self.threshold, "unlike": score > self.threshold}


def keep_likeness(measured: Measured, folder: str | Path) -> Likeness | None:
    """As ``calibrate_likeness``, on the validation images that were measured; None too where they are not there."""
    images = measured.images
    if images is None:
        return None
    normalised = measured.predictor.normalised
    return calibrate_likeness(folder, measured.predictor.model, len(images), lambda i: normalised(images[i : i + 1]))
