"""What an exported file says of the model in it: what goes in, and what its logits mean."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from allukan._version import __version__
from allukan.models import ModelCard

_VOLUME = (  # as ``allukan.data.as_input`` makes it
    "axes depth, height, width, which grow towards head, back and left; a channel whose intensities are null, or where none "
    "are given: (x - mean) / deviation, both of the whole volume; else (clip(x, first, second) - third) / fourth; "
    "voxels of spacing_mm"
)


def metadata(card: ModelCard, normalise: bool = False) -> dict[str, Any]:
    """What JSON can hold, by name; ``normalise`` where the file normalises its input itself."""
    volumes = card.spatial_dims == 3
    names = ("model", "classes", "label_values", "target", "threshold", "size", "normalisation", "intensities")
    known = {name: getattr(card, name) for name in (*names, *(("spacing_mm",) if volumes else ("mean", "std")))}
    told = {"allukan": __version__, "image": _VOLUME if volumes else _image_text(card, normalise)}
    return known | told | {"files": [asdict(file) for file in card.image_files]}


def texts(told: Mapping[str, Any]) -> dict[str, str]:
    """JSON, a key each, for formats that hold texts."""
    return {name: json.dumps(value) for name, value in told.items()}


def _image_text(card: ModelCard, normalise: bool) -> str:
    """What goes into the file; ``intensities`` of null are mean 0 and deviation 1."""
    if card.in_bytes:
        return "bytes" if normalise else "(bytes / 255 - mean) / std"
    return "values of the file" if normalise else "values of the file, normalised by intensities before they are brought to size"
