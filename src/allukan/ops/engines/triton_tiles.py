"""How the Triton kernels cut their work: tiles, how many programs walk over them, and how far a sum stays in registers."""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

import torch
from torch import Tensor

THREADS = 128
LAUNCH = {"num_warps": THREADS // 32, "enable_fp_fusion": True}
WIDE_FROM = 1 << 31  # elements from which 32-bit offsets do not reach
_NARROW = 32  # neighbours in memory that a tile has at least: 64 bytes in half precision
_LONGEST = 16  # tiles whose sums a channel are added up in registers


def cdiv(a: int, b: int) -> int:
    """The quotient, rounded up; that of Triton, which may run in a kernel as well, takes ten times as long."""
    return -(-a // b)


def next_power_of_2(n: int) -> int:
    """The least power of two that is not below n, likewise.

    >>> [next_power_of_2(n) for n in (1, 2, 3, 64, 65)]
    [1, 2, 4, 64, 128]
    """
    return 1 << (n - 1).bit_length()


def accurate(x: Tensor) -> torch.dtype:
    """The type of arithmetic and sums."""
    return torch.promote_types(x.dtype, torch.float32)


@cache
def multiprocessors(device: torch.device) -> int:
    """Of a GPU; one for the interpreter."""
    return torch.cuda.get_device_properties(device).multi_processor_count if device.type == "cuda" else 1


def flat(x: Tensor, coef: Tensor, tile: int) -> dict[str, Any]:
    """Rows and columns of a tile of ``(B, ·, N)``; 64-bit offsets only where 32 bits do not reach."""
    columns = min(tile, next_power_of_2(x.shape[2]))
    wide = x.numel() * coef.shape[1] + tile >= WIDE_FROM
    return {"TILE_ROWS": tile // columns, "COLS": columns, "FLAT": x.shape[0] == 1, "WIDE": wide}


def workers(x: Tensor, shape: dict[str, Any], programs: int) -> int:
    """Programs for a block of channels: ``programs`` a multiprocessor in all, never more than there are tiles."""
    tiles = cdiv(x.shape[0], shape["TILE_ROWS"]) * cdiv(x.shape[2], shape["COLS"])
    return max(1, min(tiles, programs * multiprocessors(x.device) // x.shape[1]))


class Lines(NamedTuple):
    """x ``(B, C, *S)`` as lines, a channel of a sample each, cut into tiles of LINES lines and PLACES places.

    Attributes:
        sizes: batch, channels of a block, and places: the elements of a line.
        groups: tiles a block needs for all its lines.
        across: tiles a line needs.
        workers: programs for a block, never more than there are tiles.
        steps: tiles along a line whose sums stay in registers, a run: as many as leave four runs to every program.
        runs: parts that the sums of a line come in.
        shape: what the kernels know of it when they are compiled.
    """

    sizes: tuple[int, int, int]
    groups: int
    across: int
    workers: int
    steps: int
    runs: int
    shape: dict[str, Any]


def lines(x: Tensor, blocks: int, times: int, last: bool, tile: int, programs: int) -> Lines:
    """Of x, contiguous or (``last``) channels-last; the largest array beside it has ``times`` as many elements."""
    available = max(1, programs * multiprocessors(x.device) // blocks)
    return _lines(x.shape[0], x.shape[1], x.numel(), blocks, times, last, tile, available)


@cache
def _lines(batch: int, all_channels: int, count: int, blocks: int, times: int, last: bool, tile: int, programs: int) -> Lines:
    """Kept, as a training asks for the same again and again, a few microseconds each time."""
    channels, places = all_channels // blocks, count // (batch * all_channels)
    if last:
        few = max(_NARROW, tile // next_power_of_2(places))
        high = min(few, next_power_of_2(channels), tile)
        groups = batch * cdiv(channels, high)
    else:
        high = tile // _width(places, tile)
        groups = cdiv(batch * channels, high)
    across = cdiv(places, tile // high)
    most = max(1, min(_LONGEST, across, groups * across // (4 * programs)))
    steps = cdiv(across, cdiv(across, most))
    shape = {"LINES": high, "PLACES": tile // high, "LAST": last, "WIDE": count * times + tile >= WIDE_FROM}
    workers = min(groups * across, programs)
    return Lines((batch, channels, places), groups, across, workers, steps, cdiv(across, steps), shape)


def _width(length: int, tile: int) -> int:
    """The largest power of two that covers a line with an eighth too many, or else with as few as can be."""
    most = min(tile, next_power_of_2(length))
    choices = [most >> i for i in range(most.bit_length()) if most >> i >= min(_NARROW, most)]
    return min(choices, key=lambda width: max(cdiv(length, width) * width, length * 9 // 8))
