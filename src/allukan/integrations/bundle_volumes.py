"""What the configurations of a bundle of volumes name beside ``bundle_parts``: a window, and masks on the grid of the file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from monai.data import MetaTensor
from torch import Tensor

from allukan.data.volumes import label_suffix, read_image, write_labels
from allukan.files import as_path
from allukan.inference.inputs import VolumeInput
from allukan.inference.results import mask_files
from allukan.inference.segmenter import number_planes, unnumbered
from allukan.inference.streaming import plane_logits, resized_planes
from allukan.integrations.bundle_parts import FusedInferer, SaveMasks, ToMasks, counted, finite_probabilities, plain
from allukan.models import ModelCard

Item = Mapping[str, Any]


class WindowInferer(FusedInferer):
    """The network, batch norms folded, in a window of ``card.size`` that moves over the volume, half overlapping."""

    def __init__(self, card: ModelCard) -> None:
        super().__init__()
        self.card = card

    def __call__(self, inputs: Tensor, network: Any, *args: Any, **kwargs: Any) -> Tensor:
        """Volumes ``(B, C, D, H, W)`` → logits ``(B, K', D, H, W)``, which are held as a whole."""
        fused = self.fused(network)

        def moved(volume: Tensor) -> Tensor:
            planes = plane_logits(lambda window: fused(window, *args, **kwargs), volume, self.card.size, volume.device)
            return torch.stack(list(planes), 1)

        return torch.stack([moved(volume) for volume in plain(inputs)])


class ToVolumeMasks(ToMasks):
    """Logits ``(K', D, H, W)`` under "pred" → masks ``(K, *S)`` of 0 and 1 in the geometry of the file, which ``meta`` holds."""

    def __call__(self, data: Item) -> dict[str, Any]:
        """Raises ``UserError`` for logits that are not finite."""
        meta, card = data["image"].meta, self.card
        grid, logits = read_image(meta["grid"]), plain(data["pred"])
        planes = (finite_probabilities(plane.contiguous(), meta["name"], card)[0] for plane in logits.unbind(1))
        wanted = resized_planes(planes, logits.shape[1:], VolumeInput(grid).geometry.shape)
        masks = torch.from_numpy(unnumbered(number_planes(wanted, grid.geometry, card)[0], card))
        return {**data, "pred": MetaTensor(counted(masks, data).float(), meta={**meta, "grid": grid})}


class SaveVolumeMasks(SaveMasks):
    """Writes the masks under "pred" as ``allukan predict`` does: ``output_dir/masks/NAME``, in the kind of file of the volume."""

    def __call__(self, data: Item) -> Item:
        """Returns what it is given."""
        self.check()
        pred = data["pred"]
        grid = pred.meta["grid"]
        masks = plain(pred).bool().numpy()
        for file, array in mask_files(masks, self.card, Path(pred.meta["name"]), label_suffix(grid), 1):
            write_labels(self.folder / as_path(file), array, grid)
        return data
