"""Batches of volumes: random patches to train on, whole volumes to validate."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Generator, Tensor
from torch.utils.data import Dataset

from allukan.data import Volumes
from allukan.training.batches import Batch, Request, foreground, mix

_FOREGROUND = 1 / 3  # of the patches that lie around a voxel of some class
_CENTRES = 1000  # such voxels that are kept, a class and volume


class Patches(Dataset[Batch]):
    """Volumes that answer with batches of patches of ``size``, drawn anew from the seed of each request; whole without a size.

    A third of the patches has a voxel of a class in its middle, each class of a volume as often; the others lie anywhere. Where
    a volume is smaller, zeros (its mean) and background go around it. ``ids`` are those of the volumes, ``repeats`` times over.
    """

    device = torch.device("cpu")  # where the volumes stay: a batch of patches is what a GPU is sent

    def __init__(self, data: Volumes, size: tuple[int, ...] | None = None, repeats: int = 1) -> None:
        self.ids, self.size = data.ids * repeats, size
        self.images = [torch.from_numpy(image.array) for image in data.images]
        self.masks = data.masks
        self.foreground = foreground(data)
        self._centres = [_centres(masks) for masks in data.masks] if size else []

    def __getitem__(self, request: Request) -> Batch:
        places = [index % len(self.images) for index in request.indices.tolist()]
        if self.size is None:
            images, masks = (torch.stack([held[i] for i in places]) for held in (self.images, self.masks))
            return Batch(images, masks, *request[1:])
        generator = Generator().manual_seed(mix(request.seed, 1))
        images, masks = map(torch.stack, zip(*(self._patch(i, self.size, generator) for i in places), strict=True))
        return Batch(images, masks, *request[1:])

    def _patch(self, index: int, size: tuple[int, ...], generator: Generator) -> tuple[Tensor, Tensor]:
        image, masks = self.images[index], self.masks[index]
        room = torch.tensor([max(0, have - want) for have, want in zip(image.shape[1:], size, strict=True)])
        starts = (torch.rand(3, generator=generator) * (room + 1)).long()
        around, drawn = torch.rand(2, generator=generator).tolist()
        centres = self._centres[index]
        if centres and around < _FOREGROUND:
            of_class = centres[int(drawn * len(centres))]
            centre = of_class[int(torch.randint(len(of_class), (1,), generator=generator))]
            starts = torch.minimum((centre - torch.tensor(size) // 2).clamp(min=0), room)
        place = tuple(slice(start, start + want) for start, want in zip(starts.tolist(), size, strict=True))
        return _padded(image[(slice(None), *place)], size), _padded(masks[(slice(None), *place)], size)


def _padded(part: Tensor, size: tuple[int, ...]) -> Tensor:
    """``(C, *S)`` with zeros on all sides up to ``(C, *size)``."""
    lacks = [want - have for have, want in zip(part.shape[1:], size, strict=True)]
    return F.pad(part, [n for lack in reversed(lacks) for n in (lack // 2, lack - lack // 2)])


def _centres(masks: Tensor) -> list[Tensor]:
    """Places ``(N, 3)`` of some voxels of every class that there is."""
    generator = Generator().manual_seed(0)
    found = [(mask == 1).nonzero() for mask in masks]
    return [places[torch.randperm(len(places), generator=generator)[:_CENTRES]] for places in found if len(places)]
