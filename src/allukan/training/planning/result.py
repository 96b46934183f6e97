"""A plan: everything that a training needs to know about its images, the memory and the time, as a value."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from allukan.training.planning.stages import Stages


@dataclass(frozen=True)
class Normalisation:
    """What makes intensities of one channel comparable.

    Attributes:
        kind: "clip": to low … high, then minus mean, over std, all of the foreground of the training images (CT, whose numbers
            mean the same in every image); "image": minus the mean of the image, over its standard deviation; "dataset": minus the
            mean of all training images, over their standard deviation, as pictures have it.
        low: of "clip".
        high: of "clip".
        mean: of "clip".
        std: of "clip".
    """

    kind: str
    low: float = 0.0
    high: float = 0.0
    mean: float = 0.0
    std: float = 1.0


@dataclass(frozen=True)
class Plan:
    """How a set of images is to be trained on; tuples about axes are in the order (D, H, W) or (H, W).

    Attributes:
        model: name of the network.
        options: of the model, with its stages.
        spatial_dims: of the network: 2 or 3.
        slice_axis: of volumes, along which their slices lie where the network has 2; None for no slices.
        spacing_mm: at which it works, an axis of the image; None where images have none.
        image_size: median size of the images at that spacing.
        patch: in voxels, an axis of the network.
        stages: strides and kernels.
        batch_size: patches a step.
        normalisation: of every channel.
        classes: names.
        memory_bytes: what a step takes by our count, the safety factor included.
        memory_given: what it may take.
        limit: what kept patch and batch from being larger: "images", "memory", "time", or that they were "given".
        seconds: that the whole training may take; None for no budget.
        notes: sentences on what is not as one might think.
    """

    model: str
    options: dict[str, Any]
    spatial_dims: int
    slice_axis: int | None
    spacing_mm: tuple[float, ...] | None
    image_size: tuple[int, ...]
    patch: tuple[int, ...]
    stages: Stages
    batch_size: int
    normalisation: tuple[Normalisation, ...]
    classes: tuple[str, ...]
    memory_bytes: int
    memory_given: int
    limit: str
    seconds: float | None = None
    notes: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """For YAML and JSON: plain values, without the stages that ``options`` hold already."""
        values = {name: value for name, value in asdict(self).items() if name != "stages"}
        return {name: _listed(value) for name, value in values.items()}


def _listed(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _listed(one) for name, one in value.items()}
    return [_listed(one) for one in value] if isinstance(value, tuple | list) else value
