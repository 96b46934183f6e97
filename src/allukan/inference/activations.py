"""Bend, inputs and KA share of a trained model, layer by layer: the function behind ``allukan inspect --activations``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from allukan.data import prepare, split_ignored
from allukan.errors import UserError
from allukan.inference.evaluation import Run, open_run
from allukan.inference.inputs import channels_of, match_files
from allukan.inference.predictor import Predictor
from allukan.inference.segmenter import Progress
from allukan.models import load_histograms, probabilities, to_masks
from allukan.nn.bend import median_bend, network_bends
from allukan.nn.histogram import Histogram, collect_inputs, learned
from allukan.nn.straight import KAShare, ka_share

BATCH = 8


@dataclass(frozen=True)
class LayerActivations:
    """The activations of one layer.

    Attributes:
        name: as in ``named_modules``.
        kind: of the layer, "KAConv2d".
        sharing: "layer", "input", a number, "output" or "edge".
        activations: how many it has.
        bend: of ``nn.bend``; NaN where it met nothing or its activations have no spread.
        outside: share of its inputs outside the grid.
        intervals: of the grid, once for each run of channels with activations of its own.
        dead: those of them in which no input ever fell.
        ka_share: points of Dice lost without its bend; None where the data were not there.
    """

    name: str
    kind: str
    sharing: str
    activations: int
    bend: float
    outside: float
    intervals: int
    dead: int
    ka_share: float | None


@dataclass(frozen=True)
class Activations:
    """All layers of a model; ``dice`` (in points) and ``ka_share`` (of all layers at once) are of the validation set, or None.

    ``bend`` is the median over layers; ``note`` says over what it was measured.
    """

    model: str
    note: str
    bend: float
    dice: float | None
    ka_share: float | None
    layers: tuple[LayerActivations, ...]

    def as_dict(self) -> dict[str, Any]:
        """Everything, for JSON, which has no NaN: None instead."""
        return asdict(self, dict_factory=lambda pairs: {name: None if value != value else value for name, value in pairs})


@dataclass(frozen=True)
class Measured:
    """A trained model, what its activations meet, and what was found of them.

    ``images`` are those of the validation set, ``(n, C, *S)`` at the size of the training, as ``Prepared`` has them; None where
    they are not there.
    """

    predictor: Predictor
    histograms: Mapping[str, Histogram]
    found: Activations
    images: Tensor | None


def inspect_activations(
    model: str | Path, device: str = "auto", progress: Progress = lambda done, total: None, trust: bool = False
) -> Activations:
    """What ``measure_activations`` finds."""
    return measure_activations(model, device, progress, trust).found


def measure_activations(
    model: str | Path, device: str = "auto", progress: Progress = lambda done, total: None, trust: bool = False
) -> Measured:
    """Measure the activations of the model folder ``RUN/model`` over the validation images of its run.

    Where the run or its data are not there, over what the folder keeps of the training, without KA shares; the note says so.
    Images have the size of the training; Dice is the mean over images and classes, 1 where prediction and truth are empty,
    ignored pixels left out: ``val_dice`` of ``history.csv``.

    Raises ``UserError`` for a folder that is no model, a model without learned activations, and one that was saved by an older
    version and has no data.
    """
    predictor = Predictor(model, device, trust=trust)
    network, layers = predictor.model, learned(predictor.model)
    images: Tensor | None = None
    if not layers:
        raise UserError(f"{predictor.card.model!r} has no learned activations: there is nothing to measure.")
    try:
        data = _validation(open_run(Path(model).resolve().parent), predictor)
    except UserError as error:
        histograms, share = load_histograms(model, network), None
        note = f"over what the activations met in training; no KA share, which needs the data of the run: {error}"
    else:
        images, truth, counts = data
        histograms = collect_inputs(network, map(predictor.normalised, images.split(BATCH)))
        share = ka_share(network, histograms, _counted(_dice_of(predictor, images, truth, counts), len(layers) + 2, progress))
        note = f"over {len(images)} validation images."
    found = Activations(
        predictor.card.model,
        note,
        median_bend(network, histograms),
        None if share is None else share.score,
        None if share is None else share.total,
        tuple(_layers(network, histograms, share)),
    )
    return Measured(predictor, histograms, found, images)


def _validation(run: Run, predictor: Predictor) -> tuple[Tensor, np.ndarray, np.ndarray]:
    """Images, masks and where they count, at the size of the training."""
    if predictor.card.spatial_dims == 3:
        raise UserError("it is measured of pictures only, and the model was trained on volumes.")
    dataset = match_files(run.open_data(), predictor.card)
    run.splits.matches(dataset)
    card = predictor.card
    channels = channels_of(card, dataset)
    data = prepare(dataset, dataset.select(run.splits.val), card.size, channels, card.kept_intensities)
    return data.images, *split_ignored(data.masks.numpy())


def _dice_of(predictor: Predictor, images: Tensor, truth: np.ndarray, counts: np.ndarray) -> Callable[[nn.Module], float]:
    """What scores a network: mean Dice in points."""
    card = predictor.card

    @torch.inference_mode()
    def score(network: nn.Module) -> float:
        parts = [probabilities(network(predictor.normalised(part)), card.target) for part in images.split(BATCH)]
        found = np.concatenate([to_masks(part, card.target, card.threshold).cpu().numpy() for part in parts]) & counts
        both, sizes = (found & truth).sum((2, 3)), found.sum((2, 3)) + truth.sum((2, 3))
        return 100 * float(np.where(sizes > 0, 2 * both / np.maximum(sizes, 1), 1.0).mean())

    return score


def _counted(score: Callable[[nn.Module], float], total: int, progress: Progress) -> Callable[[nn.Module], float]:
    done = 0

    def counted(network: nn.Module) -> float:
        nonlocal done
        value, done = score(network), done + 1
        progress(done, total)
        return value

    return counted


def _layers(network: nn.Module, histograms: Mapping[str, Histogram], share: KAShare | None) -> list[LayerActivations]:
    bends, layers = network_bends(network, histograms), learned(network)
    rows = []
    for name, found in histograms.items():
        layer = layers[name]
        met = found.intervals(layer.spline)
        lost = None if share is None else share.layers[name]
        of = (str(layer.spline.sharing), len(layer.coef), bends[name], found.outside(layer.spline))
        rows.append(LayerActivations(name, type(layer).__name__, *of, met.numel(), int((met == 0).sum()), lost))
    return rows
