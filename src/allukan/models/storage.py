"""A trained model on disk: ``model.safetensors`` and ``config.json``, all that prediction needs and nothing executable."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from allukan._version import __version__
from allukan.errors import UserError
from allukan.files import read_json, whole, write_json
from allukan.models.factory import MODELS, build_model, options_of_version

TARGETS = ("binary", "multiclass", "multilabel")


@dataclass(frozen=True)
class ImageFile:
    """One of the files that make up an image.

    Attributes:
        pattern: what its path looks like without the suffix, ``*`` for the name of the image, as "*_0001"; empty without a rule.
        channels: how many it brings.
        name: of what it shows, as "T1", where the dataset gave one.
    """

    pattern: str
    channels: int
    name: str = ""


@dataclass(frozen=True)
class ModelCard:
    """What a trained model is and how it wants its input.

    Attributes:
        model: a name of ``MODELS``.
        in_channels: 1 grey, 3 RGB, or more.
        classes: names of the foreground classes.
        target: "binary" and "multilabel" (a sigmoid a class) or "multiclass" (softmax over background and the classes).
        size: ``(H, W)`` in pixels that the network was trained at.
        mean: per channel, of intensities scaled to 0 … 1.
        std: likewise.
        spatial_dims: 2 or 3.
        options: further options of the model, ``spline`` as a dictionary.
        label_values: value of every class in masks, as in the label maps of the training; empty where masks are 0 and 255.
        threshold: probability from which a pixel belongs to a class (sigmoid targets).
        version: of allukan, when it was saved.
        files: that make up an image, in the order of their channels; empty where version 0.1 saved the model and did not tell.
    """

    model: str
    in_channels: int
    classes: tuple[str, ...]
    target: str
    size: tuple[int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    spatial_dims: int = 2
    options: dict[str, Any] = field(default_factory=dict)
    label_values: tuple[int, ...] = ()
    threshold: float = 0.5
    version: str = __version__
    files: tuple[ImageFile, ...] = ()

    @property
    def image_files(self) -> tuple[ImageFile, ...]:
        """``files``, or what they must have been: one file of 1 or 3 channels, else nnU-Net's ``*_0000`` and so on, one each."""
        if self.files or self.in_channels in (1, 3):
            return self.files or (ImageFile("*", self.in_channels),)
        return tuple(ImageFile(f"*_{channel:04d}", 1) for channel in range(self.in_channels))

    @property
    def out_channels(self) -> int:
        """Logits: one a class, and for "multiclass" one more for the background, which comes first."""
        return len(self.classes) + (self.target == "multiclass")

    def build(self) -> nn.Module:
        """The untrained model. Raises ``UserError`` when the options do not fit it."""
        shape = {"in_channels": self.in_channels, "out_channels": self.out_channels, "spatial_dims": self.spatial_dims}
        try:
            return build_model(self.model, **shape, **options_of_version(self.model, self.options, self.version))
        except (ValueError, TypeError) as error:
            if isinstance(error, UserError):
                raise
            raise UserError(f"options {self.options} do not fit {self.model!r}: {error}.") from None


def save_model(folder: str | Path, model: nn.Module, card: ModelCard) -> Path:
    """Write ``folder/model.safetensors`` and ``folder/config.json``, each whole or not at all; returns the folder.

    Raises ``UserError`` for weights that are not finite, before anything is written, and ``OSError`` like any write.
    """
    folder = Path(folder)
    weights, config = folder / "model.safetensors", folder / "config.json"
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    if bad := not_finite(state):
        raise UserError(f"{bad} of the model holds values that are not finite: {folder} is not written with it.")
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with whole(weights) as part:
            save_file(state, part)
    except SafetensorError as error:
        raise OSError(None, str(error), str(weights)) from None
    write_json(config, asdict(card), indent=2)
    return folder


def load_card(folder: str | Path) -> ModelCard:
    """The ``config.json`` of a saved model. Raises ``UserError`` when it is missing, unreadable or not ours."""
    path = Path(folder) / "config.json"
    if not path.is_file():
        raise UserError(
            f"{folder} holds no trained model (config.json is missing): give the folder RUN/model of a finished training."
        )
    try:
        raw: dict[str, Any] = read_json(path)
        lists = ("classes", "size", "mean", "std", "label_values")
        raw = _with_values(raw)
        fields: dict[str, Any] = {k: tuple(v) if k in lists else v for k, v in raw.items()}
        fields["files"] = tuple(ImageFile(**file) for file in raw.get("files", ()))
        card = ModelCard(**fields)
    except (ValueError, TypeError, AttributeError) as error:
        raise UserError(f"{path} is not a model description that allukan {__version__} reads: {error}.") from None
    if sum(file.channels for file in card.image_files) != card.in_channels:
        raise UserError(f"{path} contradicts itself: its files do not bring in_channels {card.in_channels} channels.")
    if card.model not in MODELS or card.target not in TARGETS:
        raise UserError(
            f"{path} describes model {card.model!r} with target {card.target!r}, which allukan {__version__} does not know."
        )
    return card


def _with_values(raw: dict[str, Any]) -> dict[str, Any]:
    """Models of before ``label_values`` whose classes were named after the values of their label maps."""
    numbers = raw.get("target") == "multiclass" and all(str(name).isdecimal() for name in raw.get("classes", ["?"]))
    return {"label_values": [int(name) for name in raw["classes"]], **raw} if numbers else raw


def load_model(folder: str | Path, device: str | torch.device = "cpu") -> tuple[nn.Module, ModelCard]:
    """The trained model in evaluation mode, and its card, from a folder that ``save_model`` wrote.

    Raises ``UserError`` when the folder is not a model, when its weights do not fit the architecture that it names and when
    they are not finite.
    """
    card = load_card(folder)
    path = Path(folder) / "model.safetensors"
    try:
        state = load_file(path)
    except (OSError, SafetensorError) as error:
        raise UserError(f"{path} cannot be read as weights ({error}): copy the model folder again.") from None
    if bad := not_finite(state):
        raise UserError(f"{path} is of no use: {bad} holds values that are not finite; train again, with a lower --lr.")
    model = card.build()
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        first = str(error).splitlines()[1].strip() if "\n" in str(error) else str(error)
        raise UserError(f"{path} does not fit the architecture {card.model!r} of its config.json: {first}") from None
    return model.to(device).eval(), card


def not_finite(state: Mapping[str, Tensor]) -> str | None:
    """The name of the first tensor with a NaN or an infinity, or None.

    >>> not_finite({"a": torch.zeros(2), "b": torch.tensor([1.0, float("nan")])})
    'b'
    """
    floats = (name for name, tensor in state.items() if tensor.is_floating_point() or tensor.is_complex())
    return next((name for name in floats if not state[name].isfinite().all()), None)
