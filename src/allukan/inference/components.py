"""Connected components that are no finding: all but the largest, and those that are too small."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from allukan.errors import UserError, suggestion
from allukan.models import ModelCard


@dataclass(frozen=True)
class Cleaning:
    """What is removed from the masks of an image; neighbours by a face, an edge or a corner are of one component (scipy).

    Attributes:
        keep_largest: numbers of the classes, from 1, of which only the largest component stays.
        min_volume_mm3: components of any class that are smaller go; 0 for none.
    """

    keep_largest: tuple[int, ...] = ()
    min_volume_mm3: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.min_volume_mm3 < float("inf"):
            raise UserError(f"min_volume must be a volume in mm³ of at least 0, got {self.min_volume_mm3}.")

    @classmethod
    def of_names(cls, card: ModelCard, keep_largest: Sequence[str] = (), min_volume_mm3: float = 0.0) -> Cleaning:
        """Classes by their names, or by their values in the masks that a model writes.

        Raises ``UserError`` for a class that the model has not, and for a volume of pictures, which say no size.
        """
        if min_volume_mm3 and card.spatial_dims == 2:
            raise UserError("min_volume is in mm³ and the model is of pictures, whose pixels have no volume: leave it out.")
        return cls(tuple(_number(name, card) for name in keep_largest), min_volume_mm3)

    def __call__(self, numbers: NDArray[np.unsignedinteger], card: ModelCard, voxel_mm3: float = 1.0) -> None:
        """Set to 0 in ``numbers``, as ``segmenter.numbered`` has them, what has to go."""
        least = self.min_volume_mm3 / voxel_mm3 * (1 - 1e-9)  # a component of exactly that volume stays, however it is rounded
        wanted = range(1, len(card.classes) + 1) if least else sorted(set(self.keep_largest))
        for number in wanted:
            plane, value = (numbers[number - 1], 1) if card.target == "multilabel" else (numbers[0], number)
            mask = plane == value
            box = _box(mask)
            plane[box][_removed(mask[box], number in self.keep_largest, least)] = 0


def _number(name: str, card: ModelCard) -> int:
    values = card.label_values or range(1, len(card.classes) + 1)
    known = {**{str(value): number for number, value in enumerate(values, 1)}, **{n: i for i, n in enumerate(card.classes, 1)}}
    if name not in known:
        raise UserError(f"keep_largest names {name!r}, which is no class of the model: {suggestion(name, card.classes)}")
    return known[name]


def _box(mask: NDArray[np.bool_]) -> tuple[slice, ...]:
    """Around all that is set, so that a small organ in a large volume is labelled in no time."""
    found = ndimage.find_objects(mask.view(np.uint8))
    return found[0] if found else (slice(0),) * mask.ndim


def _removed(mask: NDArray[np.bool_], largest: bool, least: float) -> NDArray[np.bool_]:
    parts, count = ndimage.label(mask, ndimage.generate_binary_structure(mask.ndim, mask.ndim))
    sizes = sum((np.bincount(plane.ravel(), minlength=count + 1) for plane in parts), np.zeros(count + 1, int))
    sizes[0] = 0
    stay = sizes >= least
    if largest:
        stay &= np.arange(count + 1) == sizes.argmax()
    return mask & ~stay[parts]
