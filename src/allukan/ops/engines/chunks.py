"""Cutting a feature map into chunks that a cache holds."""

from __future__ import annotations

from collections.abc import Iterator

CHUNK = 1 << 16  # elements handled at once: a handful of float32 temporaries of this size stay in the L2 cache


def chunks(batch: int, blocks: int, length: int, least: int = 0) -> Iterator[tuple[slice, slice]]:
    """Slices of the first and of the last dimension of ``(batch, blocks, length)``, of ``CHUNK`` or ``least`` elements.

    >>> len(list(chunks(2, 1, CHUNK + 1)))
    4
    """
    size = max(CHUNK, least)
    rows = max(1, size // max(1, blocks * length))
    columns = max(1, size // blocks)
    for start in range(0, batch, rows):
        for left in range(0, length, columns):
            yield slice(start, start + rows), slice(left, left + columns)
