"""What would go wrong in a training, or mean little, told before it starts."""

from __future__ import annotations

import copy
import logging

import torch
from torch import Tensor, nn

from allukan.data import IGNORED, Prepared, Volumes
from allukan.errors import UserError
from allukan.models import ModelCard, check_norms, is_foreign
from allukan.ops.basis import ORDERED
from allukan.options import DEFAULT_BATCH
from allukan.training.batches import BatchOrder, foreground
from allukan.training.config import TrainConfig
from allukan.training.parameters import has_roughness, spline_parameters

_log = logging.getLogger("allukan")


def check_steps(config: TrainConfig, network: nn.Module, images: int, channels: int, world: int) -> None:
    """``UserError`` when ``world`` devices have not an image each, or a norm of the network would see a single value."""
    if images < world:
        raise UserError(f"{world} devices cannot share {images} training images: give --devices {images} at most.")
    order = BatchOrder(images, config.batch_size or DEFAULT_BATCH, config.seed, train=True, world=world)
    check_norms(network, channels, config.size, order.batch_size, "cpu" if is_foreign(config.model) else "meta")


def check_splines(config: TrainConfig, network: nn.Module) -> None:
    """``UserError`` for an option of splines that would change nothing."""
    for name, wanted in (("spline_lr", config.spline_lr != config.lr), ("spline_decay", config.spline_decay)):
        if wanted and not spline_parameters(network):
            raise UserError(f"the model {config.model!r} has no splines: leave {name} out.")
    if config.spline_smoothness and not has_roughness(network):
        raise UserError(f"the model {config.model!r} has no spline of {', '.join(ORDERED)}: leave spline_smoothness out.")


def check_logits(network: nn.Module, card: ModelCard) -> None:
    """``UserError`` unless a foreign network makes logits (B, K, *S) of images, in training and in evaluation mode."""
    if not is_foreign(card.model):
        return
    images = torch.zeros(2, card.in_channels, *card.size)
    wanted = (2, card.out_channels, *card.size)
    for training in (True, False):
        scratch = copy.deepcopy(network).train(training)  # its statistics stay what they are
        try:
            with torch.no_grad(), torch.random.fork_rng(devices=[]):
                logits = scratch(images)
        except Exception as error:
            reason = " ".join(str(error).split()).rstrip(".")
            raise UserError(
                f"{card.model} fails on images {tuple(images.shape)} ({type(error).__name__}: {reason}): give another --size, or "
                "mend it."
            ) from error
        _check_shape(logits, wanted, f"{card.model} in {'training' if training else 'evaluation'} mode")


def _check_shape(logits: object, wanted: tuple[int, ...], network: str) -> None:
    if not isinstance(logits, Tensor) or not logits.is_floating_point():
        kind = str(logits.dtype) if isinstance(logits, Tensor) else type(logits).__name__
        raise UserError(f"{network} returns {kind}: return the logits alone, one floating-point tensor {wanted}.")
    got = tuple(logits.shape)
    if got[:1] + got[2:] != wanted[:1] + wanted[2:]:
        raise UserError(
            f"{network} returns logits {got} and the images have {wanted[2:]} pixels: return {wanted}, of their size."
        )
    if got != wanted:
        raise UserError(
            f"{network} returns {got[1]} channels and the classes need {wanted[1]}: make as many as out_channels says."
        )


def check_dimensions(config: TrainConfig, spatial_dims: int) -> None:
    """``UserError`` for an option that is of pictures (2) or of volumes (3) where the others are to be trained on."""
    size, data = "x".join(map(str, config.size)), config.data
    if spatial_dims == 2:
        if len(config.size) == 3:
            raise UserError(f"size {size} is of volumes, and {data} holds pictures: give height x width.")
        if config.spacing_mm:
            raise UserError(f"spacing_mm is of volumes, and {data} holds pictures: leave it out.")
        if config.cache:
            raise UserError(f"cache is of volumes, and {data} holds pictures: leave it out.")
        return
    if len(config.size) == 2:
        raise UserError(f"size {size} is of pictures, and {data} holds volumes: give depth x height x width, or leave it out.")
    if config.protocol == "ukan":
        raise UserError(f"the protocol ukan is of pictures, and {data} holds volumes: choose clean.")
    if "speckle" in (config.augment or ()):
        raise UserError(f"augment speckle is the noise of 2D ultrasound, and {data} holds volumes: leave it out.")


def check_foreground(classes: tuple[str, ...], train_set: Prepared | Volumes, val_set: Prepared | Volumes) -> None:
    """A warning for every class that no training or validation mask has, and what follows from it.

    Raises ``UserError`` when no training mask has any foreground at all.
    """
    of_train, of_val = (foreground(data) for data in (train_set, val_set))
    if not any(of_train):
        raise UserError("no training mask has any foreground: nothing can be learned; look at the masks with allukan data check.")
    for name, there in zip(classes, of_train, strict=True):
        if not there:
            _log.warning(f"class {name!r} has no pixel in any training mask: it cannot be learned.")
    if not any(of_val):
        _log.warning("no validation mask has any foreground: Dice and IoU say nothing, and the last epoch is kept as the best.")
        return
    for name, there in zip(classes, of_val, strict=True):
        if not there:
            _log.warning(
                f"class {name!r} has no pixel in any validation mask: it counts 1 where nothing is predicted, and 0 elsewhere, "
                "in Dice and IoU."
            )


def warn_of_ignored(config: TrainConfig, *sets: Prepared | Volumes) -> None:
    """A warning where the option ``ignore`` changes nothing."""
    value = config.label_rules.value
    if value is not None and not any((masks == IGNORED).any() for data in sets for masks in data.masks):
        _log.warning(f"no mask holds the label {value} that is to be ignored.")
