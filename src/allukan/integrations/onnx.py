"""``allukan export --format onnx``: one file for every batch and size, tried in onnxruntime before it gets its name."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from allukan.data import Intensity
from allukan.errors import UserError
from allukan.files import whole
from allukan.integrations.metadata import metadata, texts
from allukan.integrations.onnx_layers import OPSET, TRANSLATIONS, tabulated
from allukan.integrations.source import Source, batches_to_try, check_out, followed, needs, normalised
from allukan.models import ModelCard

_ROUNDING = 1e-6  # of the mean, below which a deviation in float32 is none
AGREES = {False: 1e-4, True: 5e-2}  # by which logits may differ from torch's, of the largest; by half precision
_LATER = (
    "inside the file values are normalised at the size at which they come, by allukan predict at that of their file: without "
    "--normalise your program can do as it does."
)
_NOISE = "torch.onnx._internal.exporter._registration"  # warns of every package that is not installed
_log = logging.getLogger("allukan")


class OnnxReport(NamedTuple):
    """What was written: nodes of the graph, KA layers in it, names of those without a table, and how it was tried."""

    path: Path
    nodes: int
    layers: int
    kept: tuple[str, ...]
    difference: float
    tried_on: str


class _Boundary(nn.Module):
    """Float32 or bytes in, float32 logits out, whatever is between; ``normalise`` comes first."""

    def __init__(self, network: nn.Module, dtype: torch.dtype, normalise: nn.Module) -> None:
        super().__init__()
        self.network, self.dtype, self.normalise = network, dtype, normalise

    def forward(self, image: Tensor) -> Tensor:
        """``(B, C, *S)`` → ``(B, K', *S)``."""
        return self.network(self.normalise(image).to(self.dtype)).float()  # type: ignore[no-any-return]


class _OfBytes(nn.Module):
    """Bytes by the mean and the spread of the training images."""

    scale: Tensor
    shift: Tensor

    def __init__(self, mean: Tensor, std: Tensor) -> None:
        super().__init__()
        self.register_buffer("scale", 1 / (255 * std))
        self.register_buffer("shift", -mean / std)

    def forward(self, image: Tensor) -> Tensor:
        """``(B, C, *S)`` → the same, float32."""
        return image.float() * self.scale + self.shift


class _OfValues(nn.Module):
    """Values in the precision of their files, as ``allukan.data.intensities`` has them."""

    def __init__(self, intensities: Sequence[Intensity]) -> None:
        super().__init__()
        self.intensities = tuple(intensities)

    def forward(self, image: Tensor) -> Tensor:
        """``(B, C, *S)`` → the same, float32."""
        channels = [self._one(image[:, n : n + 1], how) for n, how in enumerate(self.intensities)]
        return torch.cat(channels, dim=1)

    def _one(self, x: Tensor, how: Intensity) -> Tensor:
        if how:
            low, high, mean, std = how
            return (x.clamp(low, high) - mean) / std
        over = tuple(range(1, x.ndim))
        middle = x.mean(over, keepdim=True)
        x = x - middle
        deviation = x.square().mean(over, keepdim=True).sqrt()
        return x / torch.where(deviation > _ROUNDING * middle.abs(), deviation, 1.0)


def export_onnx(source: Source, out: Path, *, opset: int = OPSET, normalise: bool = False, half: bool = False) -> OnnxReport:
    """Write the model of ``source`` to ``out``.

    Its input is ``image``, normalised float32 ``(B, C, *S)``, or with ``normalise`` the bytes of pictures (values in float32, of
    a model of more than 8 bits); its output ``logits`` ``(B, K', *S)``. ``half`` stores weights, and computes all but the
    activations, in float16. Its metadata say what a program needs to know (size, normalisation, classes, target, threshold,
    label values) and by how much its logits differ from torch's on real images.

    Raises ``UserError`` for a file that exists, a missing package, an opset that does not do, and where the file computes
    something else than the model.
    """
    check_out(out)
    needs(("onnx", "onnxscript", "onnxruntime"), "the export to ONNX", "onnx")
    card = source.card
    if normalise and card.spatial_dims == 3:
        raise UserError("--normalise is for models of pictures, whose bytes go in: volumes are normalised as wholes, before.")
    if normalise and not card.in_bytes:
        _log.warning(_LATER)
    batches, tried_on = batches_to_try(source)
    dims, inside = card.spatial_dims, card if normalise else None
    with followed(card, "to ONNX"):
        program, layers, kept = to_onnx(source.network, card.in_channels, dims, opset=opset, half=half, card=inside)
        difference = max(_difference(program.model_proto, source, batch, normalise, half) for batch in batches)
    measured = {"precision": "float16" if half else "float32", "tried_on": tried_on, "largest_difference": difference}
    program.model.metadata_props.update(texts(metadata(card, normalise) | measured))
    out.parent.mkdir(parents=True, exist_ok=True)
    with whole(out) as part:
        part.write_bytes(program.model_proto.SerializeToString())
    return OnnxReport(out, len(program.model.graph), layers, kept, difference, tried_on)


def to_onnx(
    network: nn.Module,
    in_channels: int,
    spatial_dims: int = 2,
    *,
    opset: int = OPSET,
    half: bool = False,
    card: ModelCard | None = None,
) -> tuple[Any, int, tuple[str, ...]]:
    """A ``torch.onnx.ONNXProgram`` of a network in evaluation mode, how many KA layers it has and which have no table.

    With a ``card`` bytes are normalised inside. Raises ``UserError`` for an opset that the exporter or the model cannot do with.
    """
    _check_opset(opset)
    network = deepcopy(network).eval().requires_grad_(False)
    network = network.half() if half else network
    network, layers, kept = tabulated(network)
    boundary = _Boundary(network, torch.float16 if half else torch.float32, _normalising(card, spatial_dims)).eval()
    of_bytes = card is not None and card.in_bytes
    example = torch.zeros(2, in_channels, *[64] * spatial_dims, dtype=torch.uint8 if of_bytes else torch.float32)
    free = {0: torch.export.Dim.DYNAMIC, **{d + 2: torch.export.Dim.DYNAMIC for d in range(spatial_dims)}}
    with _quietly():
        program = torch.onnx.export(
            boundary,
            (example,),
            dynamo=True,
            dynamic_shapes=(free,),
            custom_translation_table=TRANSLATIONS,
            opset_version=opset,
            input_names=["image"],
            output_names=["logits"],
            verbose=False,
        )
    return _tidied(program), layers, kept


def _tidied(program: Any) -> Any:
    """Without the paths of this machine, which the exporter notes at every node, and with every table once."""
    from onnx_ir.passes.common import ClearMetadataAndDocStringPass, DeduplicateInitializersPass

    for change in (ClearMetadataAndDocStringPass(), DeduplicateInitializersPass(size_limit=1 << 24)):
        program.model = change(program.model).model
    return program


def _normalising(card: ModelCard | None, spatial_dims: int) -> nn.Module:
    if card is None:
        return nn.Identity()
    if not card.in_bytes:
        return _OfValues(card.intensities or (None,) * card.in_channels)
    return _OfBytes(*(torch.tensor(values).view(1, -1, *[1] * spatial_dims) for values in (card.mean, card.std)))


def _check_opset(opset: int) -> None:
    from onnx.defs import onnx_opset_version

    if not OPSET <= opset <= onnx_opset_version():
        raise UserError(f"opset {opset} cannot hold the model: give one from {OPSET} to {onnx_opset_version()}.")


def _difference(proto: Any, source: Source, images: Tensor, normalise: bool, half: bool) -> float:
    """The largest of the logits of onnxruntime and of torch; ``UserError`` where it is more than rounding."""
    import onnxruntime

    session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    x = normalised(images, source.card)
    with torch.inference_mode():
        wanted = source.network(x).numpy()
    given = x if not normalise else images if source.card.in_bytes else images.float()
    (found,) = session.run(None, {"image": given.numpy()})
    difference = float(np.abs(found - wanted).max())
    if not difference <= AGREES[half] * max(1.0, float(np.abs(wanted).max())):
        advice = "export it without --half." if half else "use another format."
        raise UserError(f"the ONNX file would differ from the model by {difference:.1e} in its logits: {advice}")
    return difference


@contextmanager
def _quietly() -> Iterator[None]:
    """Without what the exporter says about itself."""
    log = logging.getLogger(_NOISE)
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        log.setLevel(level)
