"""Batches straight from one block of bytes: images are decoded once, and gathered, augmented and scaled where they lie."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from allukan.data import Prepared


class Batch(NamedTuple):
    """Images ``(B, C, H, W)`` and masks ``(B, K, H, W)``, both uint8; ``seed`` of its augmentation, None for none."""

    images: Tensor
    masks: Tensor
    seed: int | None


class Request(NamedTuple):
    """The images of one batch and the seed of their augmentation."""

    indices: Tensor
    seed: int | None


class Bytes(Dataset[Batch]):
    """A prepared set that answers with whole batches, gathered where the bytes lie."""

    def __init__(self, data: Prepared) -> None:
        self.images, self.masks = data.images, data.masks

    def to(self, device: torch.device) -> Bytes:
        """Move the bytes to a GPU, once, when they take no more than half of what is free there."""
        if device.type == "cuda" and self.images.nbytes + self.masks.nbytes <= torch.cuda.mem_get_info(device)[0] // 2:
            self.images, self.masks = self.images.to(device), self.masks.to(device)
        return self

    def __getitem__(self, request: Request) -> Batch:
        indices = request.indices.to(self.images.device)
        return Batch(self.images[indices], self.masks[indices], request.seed)


class BatchOrder(Sampler[Request]):
    """Which images come together and when: depends on seed and epoch only, dealt to the ranks in turn.

    Training shuffles and leaves out the incomplete last batch, as U-KAN does; validation takes everything in order.
    """

    def __init__(self, count: int, batch_size: int, seed: int, *, train: bool, rank: int = 0, world: int = 1) -> None:
        self.count, self.seed, self.train, self.rank, self.world = count, seed, train, rank, world
        self.batch_size = min(batch_size, max(1, count // world)) if train else batch_size
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Called by Lightning before every epoch, also after a resume."""
        self.epoch = epoch

    def _indices(self) -> Tensor:
        if not self.train:
            return torch.arange(self.count)[self.rank :: self.world]
        order = torch.randperm(self.count, generator=torch.Generator().manual_seed(_mix(self.seed, self.epoch)))
        return order[: self.count - self.count % self.world][self.rank :: self.world]

    def __len__(self) -> int:
        count = len(self._indices())
        return count // self.batch_size if self.train else -(-count // self.batch_size)

    def __iter__(self) -> Iterator[Request]:
        for i, indices in enumerate(self._indices().split(self.batch_size)[: len(self)]):
            yield Request(indices, _mix(self.seed, self.epoch, self.rank, i) if self.train else None)


def batches(data: Bytes, order: BatchOrder) -> DataLoader[Batch]:
    """The loader that Lightning is given; there is nothing left for workers to do."""
    return DataLoader(data, batch_size=None, sampler=order)


def augment(images: Tensor, masks: Tensor, seed: int) -> tuple[Tensor, Tensor]:
    """Every image its own rotation by 0, 90, 180 or 270 degrees and its own flips, the mask with it; same seed, same result.

    Non-square images are rotated by 0 or 180 degrees only. Source: ``RandomRotate90`` and ``Flip`` of the U-KAN protocol.

    >>> x = torch.arange(16, dtype=torch.uint8).view(1, 1, 4, 4)
    >>> a, b = augment(x, x, seed=1)
    >>> bool((a == b).all()), sorted(a.flatten().tolist()) == list(range(16))
    (True, True)
    """
    both = torch.cat([images, masks], dim=1)
    generator = torch.Generator().manual_seed(seed)
    horizontal, vertical, transposed = (torch.rand(3, len(both), generator=generator) < 0.5).to(both.device).view(3, -1, 1, 1, 1)
    both = torch.where(horizontal, both.flip(-1), both)
    both = torch.where(vertical, both.flip(-2), both)
    if both.shape[-1] == both.shape[-2]:
        both = torch.where(transposed, both.transpose(-1, -2), both)  # with the flips: all eight symmetries of the square
    return both[:, : images.shape[1]], both[:, images.shape[1] :]


def _mix(*numbers: int) -> int:
    """One seed from several."""
    mixed = 0
    for number in numbers:
        mixed = (mixed * 1_000_003 + number + 1) % 2**63
    return mixed
