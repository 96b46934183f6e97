"""How the Triton kernels cut their work: tiles, how many programs walk over them, and how far a sum stays in registers."""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

import torch
import triton
from torch import Tensor

THREADS = 128
LAUNCH = {"num_warps": THREADS // 32, "enable_fp_fusion": True}
WIDE_FROM = 1 << 31  # elements from which 32-bit offsets do not reach
_NARROW = 32  # neighbours in memory that a tile has at least: 64 bytes in half precision
_LONGEST = 16  # tiles whose sums a channel are added up in registers


def accurate(x: Tensor) -> torch.dtype:
    """The type of arithmetic and sums."""
    return torch.promote_types(x.dtype, torch.float32)


@cache
def multiprocessors(device: torch.device) -> int:
    """Of a GPU; one for the interpreter."""
    return torch.cuda.get_device_properties(device).multi_processor_count if device.type == "cuda" else 1


def flat(x: Tensor, coef: Tensor, tile: int) -> dict[str, Any]:
    """Rows and columns of a tile of ``(B, ·, N)``; 64-bit offsets only where 32 bits do not reach."""
    columns = min(tile, triton.next_power_of_2(x.shape[2]))
    wide = x.numel() * coef.shape[1] + tile >= WIDE_FROM
    return {"TILE_ROWS": tile // columns, "COLS": columns, "FLAT": x.shape[0] == 1, "WIDE": wide}


def workers(x: Tensor, shape: dict[str, Any], programs: int) -> int:
    """Programs for a block of channels: ``programs`` a multiprocessor in all, never more than there are tiles."""
    tiles = triton.cdiv(x.shape[0], shape["TILE_ROWS"]) * triton.cdiv(x.shape[2], shape["COLS"])
    return max(1, min(tiles, programs * multiprocessors(x.device) // x.shape[1]))


class Lines(NamedTuple):
    """x ``(B, C, *S)`` as lines, a channel of a sample each, cut into tiles of LINES lines and PLACES places.

    Attributes:
        sizes: batch, channels of a block, and places: the elements of a line.
        groups: tiles a block needs for all its lines.
        across: tiles a line needs.
        programs: for a block, on the whole device.
        shape: what the kernels know of it when they are compiled.
    """

    sizes: tuple[int, int, int]
    groups: int
    across: int
    programs: int
    shape: dict[str, Any]

    @property
    def workers(self) -> int:
        """Programs for a block, never more than there are tiles."""
        return min(self.groups * self.across, self.programs)

    @property
    def steps(self) -> int:
        """Tiles along a line whose sums stay in registers, a run: as many as leave four runs to every program."""
        most = max(1, min(_LONGEST, self.across, self.groups * self.across // (4 * self.programs)))
        return triton.cdiv(self.across, triton.cdiv(self.across, most))

    @property
    def runs(self) -> int:
        """Parts that the sums of a line come in."""
        return triton.cdiv(self.across, self.steps)


def lines(x: Tensor, blocks: int, times: int, last: bool, tile: int, programs: int) -> Lines:
    """Of x, contiguous or (``last``) channels-last; the largest array beside it has ``times`` as many elements."""
    batch, channels = x.shape[0], x.shape[1] // blocks
    places = x.numel() // (batch * x.shape[1])
    if last:
        few = max(_NARROW, tile // triton.next_power_of_2(places))
        count = min(few, triton.next_power_of_2(channels), tile)
        groups = batch * triton.cdiv(channels, count)
    else:
        count = tile // _width(places, tile)
        groups = triton.cdiv(batch * channels, count)
    shape = {"LINES": count, "PLACES": tile // count, "LAST": last, "WIDE": x.numel() * times + tile >= WIDE_FROM}
    available = max(1, programs * multiprocessors(x.device) // blocks)
    return Lines((batch, channels, places), groups, triton.cdiv(places, tile // count), available, shape)


def _width(length: int, tile: int) -> int:
    """The largest power of two that covers a line with an eighth too many, or else with as few as can be."""
    most = min(tile, triton.next_power_of_2(length))
    choices = [most >> i for i in range(most.bit_length()) if most >> i >= min(_NARROW, most)]
    return min(choices, key=lambda width: max(triton.cdiv(length, width) * width, length * 9 // 8))
