"""A network moved over a volume plane by plane: what is held does not grow with the number of classes times the volume."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import product
from math import ceil, prod

import torch
from monai.data.utils import compute_importance_map
from torch import Tensor
from torch.nn import functional as F

from allukan.models.layers import resize

Network = Callable[[Tensor], Tensor]


def plane_logits(
    network: Network,
    volume: Tensor,
    size: Sequence[int],
    device: torch.device | str = "cpu",
    flip: Sequence[int] = (),
    tick: Callable[[], None] = lambda: None,
) -> Iterator[Tensor]:
    """Logits ``(K', H, W)`` of the planes of a volume ``(C, D, H, W)``, first to last: those of ``models.slide``, bit for bit.

    As many planes as a window is deep are held on ``device``, where the windows are computed; a plane is given away when no
    further window reaches it. ``flip`` names axes, 0 for D, along which the network sees the volume mirrored. ``tick`` is called
    after every window.
    """
    padded, before = _padded(volume, size, flip)
    places = [_starts(n, d, mirrored=a in flip) for a, (n, d) in enumerate(zip(padded.shape[1:], size, strict=True))]
    inside = tuple(slice(b, b + n) for b, n in zip(before, volume.shape[1:], strict=True))
    rows = _Rows(compute_importance_map(tuple(size), "gaussian", device=device), padded.shape[2:])
    axes = [axis + 2 for axis in flip]
    for start, following in zip(places[0], [*places[0][1:], padded.shape[1]], strict=True):
        for at in product(*places[1:]):
            window = padded[(slice(None), *(slice(s, s + d) for s, d in zip((start, *at), size, strict=True)))]
            rows.add(network(window[None].to(device).flip(axes)).flip(axes)[0], at)
            tick()
        for number, plane in enumerate(rows.leave(following - start), start):
            if inside[0].start <= number < inside[0].stop:
                yield plane[(slice(None), *inside[1:])]


class _Rows:
    """The weighted sum of windows over as many planes as they are deep."""

    def __init__(self, weights: Tensor, across: Sequence[int]) -> None:
        self._weights, self._across = weights, tuple(across)
        self._total = weights.new_zeros(len(weights), *across)
        self._sums: Tensor | None = None

    def add(self, logits: Tensor, at: tuple[int, ...]) -> None:
        """Of a window ``(K', *size)`` at a place ``(h, w)``."""
        if self._sums is None:
            self._sums = self._total.new_zeros(len(logits), *self._total.shape)
        place = (slice(None), *(slice(s, s + d) for s, d in zip(at, self._weights.shape[1:], strict=True)))
        self._sums[(slice(None), *place)] += logits * self._weights
        self._total[place] += self._weights

    def leave(self, count: int) -> Iterator[Tensor]:
        """The mean in the first ``count`` planes; the others move up."""
        assert self._sums is not None
        for number in range(count):
            yield self._sums[:, number] / self._total[number]
        for held in (self._sums, self._total):
            for number in range(count, held.shape[-3]):  # one after the other: no second copy of all
                held[..., number - count, :, :] = held[..., number, :, :]
            held[..., held.shape[-3] - count :, :, :] = 0


def window_count(shape: Sequence[int], size: Sequence[int]) -> int:
    """How many windows of ``size`` cover a volume.

    >>> window_count((20, 16, 30), (16, 16, 16))
    6
    """
    return prod(len(_starts(max(n, d), d)) for n, d in zip(shape, size, strict=True))


def _starts(length: int, size: int, mirrored: bool = False) -> list[int]:
    """Where windows begin along an axis, half overlapping, the last one at its end."""
    step = max(1, size // 2)
    starts = [min(number * step, length - size) for number in range(ceil((length - size) / step) + 1)]
    return [length - size - start for start in reversed(starts)] if mirrored else starts


def _padded(volume: Tensor, size: Sequence[int], flip: Sequence[int]) -> tuple[Tensor, list[int]]:
    """With zeros around sides that are shorter than the window, and how many come before; of an odd one more at the far end,
    which is the near one where the network sees the axis mirrored.
    """
    lacking = [max(d - n, 0) for n, d in zip(volume.shape[1:], size, strict=True)]
    before = [(lack + (axis in flip)) // 2 for axis, lack in enumerate(lacking)]
    if not any(lacking):
        return volume, before
    return F.pad(volume, [n for b, lack in zip(before[::-1], lacking[::-1], strict=True) for n in (b, lack - b)]), before


def resized_planes(planes: Iterator[Tensor], have: Sequence[int], want: Sequence[int]) -> Iterator[Tensor]:
    """Planes ``(K', H, W)`` of ``have`` voxels → those of ``want`` voxels, as ``resize`` of the whole up to rounding."""
    if tuple(have) == tuple(want):
        yield from planes
        return
    across = (resize(plane[None], tuple(want[1:]))[0] for plane in planes)
    lower = upper = next(across)
    below = -1  # number of ``lower``; before the first plane and behind the last one their values go on
    for number in range(want[0]):
        place = min(max((number + 0.5) * have[0] / want[0] - 0.5, 0), have[0] - 1)
        while below < int(place):
            below += 1
            lower, upper = upper, next(across, upper)
        yield torch.lerp(lower, upper, place - below)
