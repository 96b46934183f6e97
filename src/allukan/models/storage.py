"""A trained model on disk: ``model.safetensors`` and ``config.json``, all that prediction needs and nothing executable."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import asdict, field, replace
from pathlib import Path
from typing import Annotated, Any

import torch
from annotated_types import Ge, Le, MaxLen, MinLen
from pydantic import AfterValidator, BeforeValidator
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from allukan._version import __version__
from allukan.errors import UserError, full_stop, shown
from allukan.files import read_json, whole, write_json
from allukan.models.converted import asks_for_conversion, converted, without_conversion
from allukan.models.factory import build_model, check_model, options_of_version
from allukan.models.foreign import check_trust, is_foreign
from allukan.options import LARGEST_COUNT, Count, Help, Must, Number, OneOf, Whole, option_set

LARGEST_NETWORK = 4_000_000_000  # parameters: 16 GB


@option_set("entry of a file", "file: ")
class ImageFile:
    """One of the files that make up an image."""

    pattern: Annotated[
        str, Help("what its path looks like without the suffix, `*` for the name of the image, as `*_0001`; empty without a rule")
    ]
    channels: Annotated[Count, Help("how many it brings")]
    name: Annotated[str, Help('of what it shows, as "T1", where the dataset gave one')] = ""


def _listed(values: Any) -> Any:
    return tuple(values) if isinstance(values, list) else values


def _intensities(values: Any) -> Any:
    return tuple(_listed(value) for value in values) if isinstance(values, list | tuple) else values


def _known(model: str) -> str:
    check_model(model)
    return model


def _image_files(files: Any) -> Any:
    listed = _listed(files)
    return tuple(ImageFile(**file) if isinstance(file, dict) else file for file in listed) if isinstance(listed, tuple) else files


Listed = BeforeValidator(_listed)  # what JSON has as a list
Pixels = Annotated[Whole, Ge(1), Le(16_384)]


@option_set("entry of a model", "")
class ModelCard:
    """What a trained model is and how it wants its input. Raises ``UserError`` for what does not describe one."""

    model: Annotated[str, AfterValidator(_known), Help("a name of MODELS, or package.module:function")]
    in_channels: Annotated[Count, Help("1 grey, 3 RGB, or more")]
    classes: Annotated[
        tuple[str, ...],
        Listed,
        MaxLen(LARGEST_COUNT),
        Must(f"at most {LARGEST_COUNT} names"),
        Help("names of the foreground classes"),
    ]
    target: Annotated[
        str,
        OneOf("binary", "multiclass", "multilabel"),
        Help("binary and multilabel (a sigmoid a class) or multiclass (softmax over background and the classes)"),
    ]
    size: Annotated[
        tuple[Pixels, ...],
        Listed,
        MinLen(2),
        MaxLen(3),
        Must("two numbers of pixels of at most 16384"),
        Help("(H, W) in pixels that the network was trained at; (D, H, W) of the patches of volumes"),
    ]
    mean: Annotated[tuple[Number, ...], Listed, Must("numbers"), Help("per channel, of intensities scaled to 0 … 1")]
    std: Annotated[tuple[Number, ...], Listed, Must("numbers"), Help("likewise")]
    spatial_dims: Annotated[Whole, Ge(2), Le(3), Help("2 or 3")] = 2
    options: Annotated[
        dict[str, Any], Must("'name: value' pairs"), Help("further options of the model, spline as a dictionary")
    ] = field(default_factory=dict)
    label_values: Annotated[
        tuple[Whole, ...],
        Listed,
        Must("whole numbers"),
        Help("value of every class in masks, as in the label maps of the training; empty where masks are 0 and 255"),
    ] = ()
    threshold: Annotated[Number, Help("probability from which a pixel belongs to a class (sigmoid targets)")] = 0.5
    version: Annotated[str, Help("of allukan, when it was saved")] = __version__
    files: Annotated[
        tuple[ImageFile, ...],
        BeforeValidator(_image_files),
        Must("entries with pattern, channels and name"),
        Help("that make up an image, in the order of their channels; empty where version 0.1 saved the model and did not tell"),
    ] = ()
    normalisation: Annotated[
        str,
        OneOf("training", "image"),
        Help("training: by mean and std of the training images; image: every channel of an image to mean 0 and deviation 1"),
    ] = "training"
    spacing_mm: Annotated[
        tuple[Number, ...], Listed, Must("numbers"), Help("of the voxels that the network was trained at; empty for 2D")
    ] = ()
    intensities: Annotated[
        tuple[tuple[Number, Number, Number, Number] | None, ...],
        BeforeValidator(_intensities),
        Must("null or four numbers a channel"),
        Help(
            "of volumes and of pictures that keep their values, a channel: lowest and highest value, to which it is clipped, and "
            "the mean and deviation that are taken off; null, and all where it is empty: mean 0 and deviation 1 of every image"
        ),
    ] = ()

    @property
    def in_bytes(self) -> bool:
        """Whether images are bytes, normalised by ``mean`` and ``std``; else they keep the values of their files."""
        return self.normalisation == "training"

    @property
    def kept_intensities(self) -> tuple[tuple[float, float, float, float] | None, ...] | None:
        """``intensities`` of images that keep their values, as ``allukan.data.prepare`` takes them; None for bytes."""
        return None if self.in_bytes else self.intensities

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

    @property
    def needs_values(self) -> bool:
        """Whether the network cannot be made of shapes alone: foreign code may look at values, and a conversion does."""
        return is_foreign(self.model) or asks_for_conversion(self.model, self.options)

    def outline(self) -> nn.Module:
        """The untrained model on the meta device: all its shapes, and no memory. One that ``needs_values`` is there whole.

        Raises ``UserError`` when the options do not fit it, and for more than ``LARGEST_NETWORK`` parameters.
        """
        if self.needs_values and not is_foreign(self.model):
            replace(self, options=without_conversion(self.options)).outline()  # before any memory is taken
        try:
            with nullcontext() if self.needs_values else torch.device("meta"):
                model = self._made()
        except (ValueError, TypeError) as error:
            if isinstance(error, UserError):
                raise
            raise UserError(f"options {shown(self.options)} do not fit {self.model!r}: {full_stop(error)}") from None
        count = sum(parameter.numel() for parameter in model.parameters())
        if count > LARGEST_NETWORK:
            raise UserError(
                f"{self.model!r} with options {shown(self.options)}, {self.in_channels} channels and {self.out_channels} logits "
                f"has {count:,} parameters: at most {LARGEST_NETWORK:,} are built, so give smaller ones."
            )
        return model

    def build(self) -> nn.Module:
        """The untrained model, in training mode; raises as ``outline`` does, before any memory is taken."""
        return self.filled(self.outline()).train()  # foreign code may hand over its network in evaluation mode

    def filled(self, outline: nn.Module) -> nn.Module:
        """What an outline of this card is of, with values."""
        return outline if self.needs_values else self._made()

    def _made(self) -> nn.Module:
        shape = {"in_channels": self.in_channels, "out_channels": self.out_channels, "spatial_dims": self.spatial_dims}
        wanted = asks_for_conversion(self.model, self.options)
        options = options_of_version(self.model, without_conversion(self.options), self.version)
        network = build_model(self.model, **shape, **options)
        sides = (*self.size, self.size[1])[: self.spatial_dims]
        return converted(network, self.model, self.options, (self.in_channels, *sides)) if wanted else network


def save_model(folder: str | Path, model: nn.Module, card: ModelCard) -> Path:
    """Write ``folder/model.safetensors`` and ``folder/config.json``, each whole or not at all; returns the folder.

    Raises ``UserError`` for weights that are not finite, before anything is written, and ``OSError`` like any write.
    """
    folder = Path(folder)
    weights, config = folder / "model.safetensors", folder / "config.json"
    # each with memory of its own: safetensors refuses what foreign code holds under two names
    state = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in model.state_dict().items()}
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
    if not path.is_file() and (Path(folder) / "fold-0").is_dir():
        raise UserError(
            f"{folder} has folds, each with a model of its own: give one of them, as {Path(folder) / 'fold-0' / 'model'}."
        )
    if not path.is_file():
        raise UserError(
            f"{folder} holds no trained model (config.json is missing): give the folder RUN/model of a finished training."
        )
    try:
        raw = read_json(path)
        if not isinstance(raw, dict):
            raise UserError(f"it holds {shown(raw)}.")
        card = ModelCard(**_with_values(raw))
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is not a model description that allukan {__version__} reads: {full_stop(error)}") from None
    if sum(file.channels for file in card.image_files) != card.in_channels:
        raise UserError(f"{path} contradicts itself: its files do not bring in_channels {card.in_channels} channels.")
    return card


def outline_saved(folder: str | Path, card: ModelCard, trust: bool = False) -> nn.Module:
    """``card.outline()``; ``UserError`` names the file of the folder when what it asks for cannot be built.

    Foreign code is imported with ``trust`` alone.
    """
    check_trust(card.model, f"{folder} is a model of", trust)
    try:
        return card.outline()
    except UserError as error:
        raise UserError(f"{Path(folder) / 'config.json'}: {error}") from None


def _with_values(raw: dict[str, Any]) -> dict[str, Any]:
    """Models of before ``label_values`` whose classes were named after the values of their label maps."""
    names = raw.get("classes")
    numbers = raw.get("target") == "multiclass" and isinstance(names, list) and all(str(name).isdecimal() for name in names)
    return {"label_values": [int(name) for name in raw["classes"]], **raw} if numbers else raw


def load_model(folder: str | Path, device: str | torch.device = "cpu", trust: bool = False) -> tuple[nn.Module, ModelCard]:
    """The trained model in evaluation mode, and its card, from a folder that ``save_model`` wrote.

    A folder may name code of its own (``package.module:function``), which is imported and called with ``trust`` alone.

    Raises ``UserError`` when the folder is not a model, when it names such code and is not trusted, when its weights do not fit
    the architecture that it names and when they are not finite.
    """
    card = load_card(folder)
    check_trust(card.model, f"{folder} is a model of", trust)
    path = Path(folder) / "model.safetensors"
    try:
        state = load_file(path)
    except (OSError, SafetensorError) as error:
        raise UserError(f"{path} cannot be read as weights ({error}): copy the model folder again.") from None
    if bad := not_finite(state):
        raise UserError(f"{path} is of no use: {bad} holds values that are not finite; train again, with a lower --lr.")
    outline = outline_saved(folder, card, trust)
    if wrong := misfit(state, outline.state_dict()):
        raise UserError(f"{path} does not fit the architecture {card.model!r} of its config.json: {wrong}.")
    model = card.filled(outline)
    model.load_state_dict(state)
    return model.to(device).eval(), card


def misfit(have: Mapping[str, Tensor], want: Mapping[str, Tensor]) -> str | None:
    """The first tensor that is not there, or has another shape."""
    for name in sorted(have.keys() | want.keys()):
        shapes = [str(tuple(tensors[name].shape)) if name in tensors else "no shape" for tensors in (have, want)]
        if shapes[0] != shapes[1]:
            return f"{name} has {shapes[0]} there and {shapes[1]} by the architecture"
    return None


def not_finite(state: Mapping[str, Tensor]) -> str | None:
    """The name of the first tensor with a NaN or an infinity, or None.

    >>> not_finite({"a": torch.zeros(2), "b": torch.tensor([1.0, float("nan")])})
    'b'
    """
    floats = (name for name, tensor in state.items() if tensor.is_floating_point() or tensor.is_complex())
    return next((name for name in floats if not state[name].isfinite().all()), None)
