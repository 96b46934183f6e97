"""Batches straight from one block of memory: images are decoded once, and gathered, augmented and scaled where they lie."""

from __future__ import annotations

from collections.abc import Iterator
from copy import copy
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from allukan.data import Prepared, Volumes
from allukan.training.augmentation import draw_turns

if TYPE_CHECKING:
    from allukan.training.patches import Patches

_CPU = torch.device("cpu")


class Batch(NamedTuple):
    """Images ``(B, C, *S)``, uint8 or normalised float32, and masks ``(B, K, *S)``, uint8; ``turns`` (or None) and ``seed`` to
    augment them by.

    ``company`` is a batch that another rank scores: it keeps a rank without validation images in step, and counts for nothing.
    """

    images: Tensor
    masks: Tensor
    turns: Tensor | None
    seed: int
    company: bool = False


class Request(NamedTuple):
    """Which images make up one batch, their turns, the seed of what else changes them, and whether they count."""

    indices: Tensor
    turns: Tensor | None
    seed: int
    company: bool = False


class Bytes(Dataset[Batch]):
    """A prepared set that answers with whole batches, gathered where the bytes lie.

    ``ids`` are those of the images; ``foreground`` says of every class whether a mask has any.
    """

    def __init__(self, data: Prepared) -> None:
        self.ids, self.images, self.masks = data.ids, data.images, data.masks
        self.foreground = foreground(data)

    def to(self, device: torch.device) -> Bytes:
        """Move the bytes to a GPU, once, when they take no more than half of what is free there."""
        if device.type == "cuda" and self.images.nbytes + self.masks.nbytes <= torch.cuda.mem_get_info(device)[0] // 2:
            self.images, self.masks = self.images.to(device), self.masks.to(device)
        return self

    @property
    def device(self) -> torch.device:
        """Where the bytes lie, and where indices are wanted."""
        return self.images.device

    def __getitem__(self, request: Request) -> Batch:
        return Batch(self.images[request.indices], self.masks[request.indices], *request[1:])


class BatchOrder(Sampler[Request]):
    """Which images come together, when, and how they are turned: depends on seed and epoch only, dealt to the ranks in turn.

    Training shuffles and leaves out the incomplete last batch, as U-KAN does; validation takes everything in order. The draws
    of a whole epoch go to ``device`` at its start: a step takes slices of them, and nothing between two steps waits.

    A rank that is left without a validation image is given the first one as company: ranks must take steps together.
    """

    def __init__(
        self,
        count: int,
        batch_size: int,
        seed: int,
        *,
        train: bool,
        rank: int = 0,
        world: int = 1,
        device: torch.device = _CPU,
    ) -> None:
        self.count, self.seed, self.train, self.rank, self.world, self.device = count, seed, train, rank, world, device
        self.batch_size = min(batch_size, max(1, count // world)) if train else batch_size
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Called by Lightning before every epoch, also after a resume."""
        self.epoch = epoch

    def of_rank(self, rank: int) -> BatchOrder:
        """What another rank has in the same epoch."""
        other = copy(self)
        other.rank = rank
        return other

    def batch(self, step: int) -> list[int]:
        """Places of the images of one batch."""
        return self._indices()[step * self.batch_size : (step + 1) * self.batch_size].tolist()

    def _indices(self) -> Tensor:
        if not self.train:
            return torch.zeros(1, dtype=torch.int64) if self._company else torch.arange(self.count)[self.rank :: self.world]
        order = torch.randperm(self.count, generator=torch.Generator().manual_seed(mix(self.seed, self.epoch)))
        return order[: self.count - self.count % self.world][self.rank :: self.world]

    @property
    def _company(self) -> bool:
        return not self.train and self.rank >= self.count

    def __len__(self) -> int:
        share = max(1, (self.count - self.rank + self.world - 1) // self.world)
        return self.count // self.world // self.batch_size if self.train else -(-share // self.batch_size)

    def __iter__(self) -> Iterator[Request]:
        indices = _sent(self._indices(), self.device)
        turns = None
        if self.train:
            turns = _sent(draw_turns(len(indices), mix(self.seed, self.epoch, self.rank)), self.device)
        for start in range(0, len(self) * self.batch_size, self.batch_size):
            step = slice(start, start + self.batch_size)
            seed = mix(self.seed, self.epoch, self.rank, start)
            yield Request(indices[step], None if turns is None else turns[step], seed if self.train else 0, self._company)


def batches(data: Bytes | Patches, order: BatchOrder, device: torch.device = _CPU) -> DataLoader[Batch]:
    """The loader that Lightning is given; there is nothing left for workers to do.

    Batches of bytes that had no room on ``device``, a GPU, go through pinned memory, copied while the GPU works.
    """
    return DataLoader(data, batch_size=None, sampler=order, pin_memory=device.type == "cuda" and data.device.type == "cpu")


def foreground(data: Prepared | Volumes) -> tuple[bool, ...]:
    """Whether any mask has a pixel of the class, for every class."""
    return tuple(torch.stack([(masks == 1).flatten(1).any(1) for masks in data.masks]).any(0).tolist())


def _sent(tensor: Tensor, device: torch.device) -> Tensor:
    """On the device, without waiting for what that still does."""
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)


def mix(*numbers: int) -> int:
    """One seed from several."""
    mixed = 0
    for number in numbers:
        mixed = (mixed * 1_000_003 + number + 1) % 2**63
    return mixed
