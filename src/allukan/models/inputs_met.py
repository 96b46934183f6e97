"""What the activations of a trained model met, on disk beside it: ``activations.safetensors`` and ``likeness.safetensors``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from allukan.errors import UserError
from allukan.files import whole
from allukan.nn.histogram import Histogram, learned, runs
from allukan.nn.likeness import Likeness, calibrate

FILE, LIKENESS = "activations.safetensors", "likeness.safetensors"
LEAST, MOST = 9, 200  # images that likeness is calibrated on
_PARTS = ("counts", "beyond", "span")


def save_histograms(folder: str | Path, histograms: Mapping[str, Histogram]) -> None:
    """Write ``folder/activations.safetensors`` whole or not at all: three tensors a layer.

    ``LAYER.counts`` int32 ``(R, N + 2)``, ``LAYER.beyond`` float32 ``(R, 2)`` and ``LAYER.span`` float64 ``(2,)``, as in
    ``Histogram``; LAYER is the name in ``named_modules``. Of layers with several runs, as of ``sharing="input"``, bins are four
    times as wide, so that the file stays smaller than the weights.
    """
    tensors: dict[str, Tensor] = {}
    for name, found in histograms.items():
        found = _stored(found)
        values = (found.counts.to("cpu", torch.int32), found.beyond.cpu(), torch.tensor(found.span, dtype=torch.float64))
        tensors |= {f"{name}.{part}": value.contiguous() for part, value in zip(_PARTS, values, strict=True)}
    _write(Path(folder) / FILE, tensors)


def load_histograms(folder: str | Path, model: nn.Module) -> dict[str, Histogram]:
    """What ``save_histograms`` wrote for the layers of the model of the folder, whose shapes may be on the meta device.

    Raises ``UserError`` where there is no such file, as of models that older versions saved, and for one of another model.
    """
    path = Path(folder) / FILE
    if not path.is_file():
        raise UserError(
            f"{folder} does not say what its activations met ({FILE} is missing, which older versions did not write): "
            "leave it in its run folder, with the data of the training where they were."
        )
    tensors, found = _read(path), {}
    for name, layer in learned(model).items():
        counts, beyond, span = (tensors.get(f"{name}.{part}", torch.empty(0)) for part in _PARTS)
        want = _stored(Histogram.empty(layer.spline, runs(layer)))
        if counts.shape != want.counts.shape or beyond.shape != want.beyond.shape or tuple(span.tolist()) != want.span:
            raise UserError(f"{path} is of another model than its config.json: copy the model folder again.")
        found[name] = Histogram(counts.to(torch.int64), beyond, want.span)
    return found


def _stored(histogram: Histogram) -> Histogram:
    return histogram if len(histogram.counts) == 1 else histogram.coarser()


def save_likeness(folder: str | Path, likeness: Likeness) -> None:
    """Write ``folder/likeness.safetensors`` whole or not at all: ``LAYER.cumulative`` and ``distances``, as in ``Likeness``."""
    tensors = {f"{name}.cumulative": values.contiguous() for name, values in likeness.cumulative.items()}
    _write(Path(folder) / LIKENESS, {**tensors, "distances": likeness.distances.contiguous()})


def calibrate_likeness(folder: str | Path, network: nn.Module, count: int, image: Callable[[int], Tensor]) -> Likeness | None:
    """Calibrate on ``image(0)`` … ``image(count - 1)``, at most 200 of them evenly drawn, and write ``likeness.safetensors``.

    Each is ``(1, C, *S)``, as the network takes it, and costs an evaluation. None, and no file, for fewer than 9: the threshold
    would be the largest of their scores, which more than one in ten of further images like them exceeds. Raises ``OSError``.
    """
    if count < LEAST:
        return None
    chosen = torch.linspace(0, count - 1, min(count, MOST)).round().long().tolist()
    likeness = calibrate(network, [image(place) for place in chosen])
    save_likeness(folder, likeness)
    return likeness


def load_likeness(folder: str | Path, model: nn.Module) -> Likeness | None:
    """What ``save_likeness`` wrote for the model of the folder; None where nobody measured it.

    Raises ``UserError`` for a file of another model, or one that cannot be read.
    """
    path = Path(folder) / LIKENESS
    if not path.is_file():
        return None
    tensors, layers = _read(path), learned(model)
    found = Likeness(
        {name: tensors.get(f"{name}.cumulative", torch.empty(0)) for name in layers}, tensors.get("distances", torch.empty(0))
    )
    shapes = {name: Histogram.empty(layer.spline, runs(layer)).coarser().counts.shape for name, layer in layers.items()}
    if {n: c.shape for n, c in found.cumulative.items()} != shapes or found.distances.shape[1:] != (len(layers),):
        raise UserError(f"{path} is of another model than its config.json: copy the model folder again.")
    return found


def _write(path: Path, tensors: dict[str, Tensor]) -> None:
    try:
        with whole(path) as part:
            save_file(tensors, part)
    except SafetensorError as error:
        raise OSError(None, str(error), str(path)) from None


def _read(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise UserError(f"{path} cannot be read ({error}): copy the model folder again.") from None
