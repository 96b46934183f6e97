"""Cutting a feature map into blocks that a cache holds."""

from __future__ import annotations

from collections.abc import Iterator

BLOCK = 1 << 16  # elements handled at once: a handful of float32 temporaries of this size stay in the L2 cache


def blocks(batch: int, groups: int, length: int, least: int = 0) -> Iterator[tuple[slice, slice]]:
    """Slices of the first and of the last dimension of ``(batch, groups, length)``, of ``BLOCK`` or ``least`` elements.

    >>> len(list(blocks(2, 1, BLOCK + 1)))
    4
    """
    block = max(BLOCK, least)
    rows = max(1, block // max(1, groups * length))
    columns = max(1, block // groups)
    for start in range(0, batch, rows):
        for left in range(0, length, columns):
            yield slice(start, start + rows), slice(left, left + columns)
