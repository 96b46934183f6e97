"""The kernels of ``triton_engine`` with two numbers a channel in front of φ, and those that sum and mix channels.

A line is one channel of one sample. Arrays: x and dx of batch × J·channels lines of ``places`` elements, y and g of R times as
many; contiguous, or (LAST) channels-last: a place with all its channels after the other. A tile is LINES lines × PLACES places
of one block, and of one sample where LAST. scale, shift and mean have a number a channel; ``own`` further on is that of the next
sample, 0 says that it has none. Sums a line go to ``row_sums`` (runs, batch·J·channels, 2): a pair for every run of ``steps``
tiles, each written once.
"""

import triton
import triton.language as tl

from allukan.ops.engines.triton_kernels import differentiate, store_all_sums, write_activations, write_tables


@triton.jit
def _groups(batch, channels, LINES: tl.constexpr, LAST: tl.constexpr):
    """Tiles for all lines of a block."""
    return batch * tl.cdiv(channels, LINES) if LAST else tl.cdiv(batch * channels, LINES)


@triton.jit
def _lines(group, batch, channels, LINES: tl.constexpr, LAST: tl.constexpr, WIDE: tl.constexpr):
    """Sample and channel in the block of every line of a tile, and which of them exist."""
    lane = tl.arange(0, LINES)
    if WIDE:
        lane = lane.to(tl.int64)
    if LAST:
        across = tl.cdiv(channels, LINES)
        sample, channel = group // across + lane * 0, (group % across) * LINES + lane
        there = channel < channels
    else:
        line = group * LINES + lane
        sample, channel = line // channels, line % channels
        there = line < batch * channels
    return sample, channel, there


@triton.jit
def _start(sample, channel, j, blocks, channels, places, EACH: tl.constexpr, LAST: tl.constexpr):
    """Where lines begin in an array of EACH activations a channel, those of the first one."""
    reach = 1 if LAST else places
    return sample * blocks * EACH * channels * places + (j * EACH * channels + channel) * reach


@triton.jit
def _places(tile, PLACES: tl.constexpr, WIDE: tl.constexpr):
    lane = tl.arange(0, PLACES)
    return tile * PLACES + (lane.to(tl.int64) if WIDE else lane)


@triton.jit
def _numbers(values, at, there, like):
    """A number a line, against a tile."""
    return tl.load(values + at, there, 0.0).to(like.dtype)[:, None]


@triton.jit
def channel_forward_kernel(
    x,
    coef,
    weight,
    scale,
    shift,
    y,
    tables,
    batch,
    channels,
    places,
    own,
    R: tl.constexpr,
    M: tl.constexpr,
    K: tl.constexpr,
    POLY: tl.constexpr,
    ROWS: tl.constexpr,
    SCALE: tl.constexpr,
    SHIFT: tl.constexpr,
    TOP: tl.constexpr,
    BASE: tl.constexpr,
    LEAK: tl.constexpr,
    LINES: tl.constexpr,
    PLACES: tl.constexpr,
    LAST: tl.constexpr,
    WIDE: tl.constexpr,
):
    """``forward_kernel`` of scale·x + shift."""
    j, worker, blocks = tl.program_id(0), tl.program_id(1), tl.num_programs(0)
    tables += (worker * blocks + j) * (R * (K + 1) * ROWS)
    write_tables(coef + j * (R * M), tables, R, M, K, POLY, ROWS)
    across = tl.cdiv(places, PLACES)
    tiles = _groups(batch, channels, LINES, LAST) * across
    to_place, to_activation = (blocks * channels, channels) if LAST else (1, channels * places)
    for tile in range(worker.to(tl.int64) if WIDE else worker, tiles, tl.num_programs(1)):
        sample, channel, there = _lines(tile // across, batch, channels, LINES, LAST, WIDE)
        place = _places(tile % across, PLACES, WIDE)[None, :]
        mask = there[:, None] & (place < places)
        at = _start(sample, channel, j, blocks, channels, places, 1, LAST)[:, None] + place * to_place
        raw = tl.load(x + at, mask, 0.0).to(tables.dtype.element_ty)
        number = sample * own + j * channels + channel
        values = raw * _numbers(scale, number, there, raw) + _numbers(shift, number, there, raw)
        at = _start(sample, channel, j, blocks, channels, places, R, LAST)[:, None] + place * (R * to_place if LAST else 1)
        write_activations(
            values, y, at, to_activation, mask, weight + j * R, tables, R, K, ROWS, SCALE, SHIFT, TOP, BASE, LEAK
        )  # fmt: skip


@triton.jit(do_not_specialize=["steps"])
def channel_backward_kernel(
    g,
    x,
    coef,
    weight,
    scale,
    shift,
    mean,
    dx,
    row_sums,
    tables,
    partials,
    batch,
    channels,
    places,
    own,
    steps,
    R: tl.constexpr,
    M: tl.constexpr,
    K: tl.constexpr,
    PIECES: tl.constexpr,
    SLOPES: tl.constexpr,
    ROWS: tl.constexpr,
    SCALE: tl.constexpr,
    SHIFT: tl.constexpr,
    TOP: tl.constexpr,
    BASE: tl.constexpr,
    LEAK: tl.constexpr,
    LINES: tl.constexpr,
    PLACES: tl.constexpr,
    LAST: tl.constexpr,
    WIDE: tl.constexpr,
    EXACT: tl.constexpr,
    INPUT: tl.constexpr,
    SPAN: tl.constexpr,
    R_SPAN: tl.constexpr,
):
    """``backward_kernel`` of u = scale·x + shift: dx is the gradient of u; also its sum and that times (x - mean), a line."""
    j, worker, blocks = tl.program_id(0), tl.program_id(1), tl.num_programs(0)
    parts: tl.constexpr = (M + SPAN - 1) // SPAN if SPAN else 1
    r_first, part = (tl.program_id(2) // parts) * R_SPAN, tl.program_id(2) % parts
    tables += (worker * blocks + j) * (R * K * ROWS)
    if INPUT and EXACT:
        write_tables(coef + j * (R * M), tables, R, M, K, SLOPES, ROWS)
    zero = tl.zeros([LINES, PLACES], partials.dtype.element_ty)
    sums = (zero,) * (R_SPAN * (SPAN + 1))
    runs = tl.cdiv(tl.cdiv(places, PLACES), steps)
    to_place, to_activation = (blocks * channels, channels) if LAST else (1, channels * places)
    chunks = _groups(batch, channels, LINES, LAST) * runs
    for chunk in range(worker.to(tl.int64) if WIDE else worker, chunks, tl.num_programs(1)):
        sample, channel, there = _lines(chunk // runs, batch, channels, LINES, LAST, WIDE)
        line = j * channels + channel
        a, b = (_numbers(scale, sample * own + line, there, zero), _numbers(shift, sample * own + line, there, zero))
        centre = _numbers(mean, sample * own + line, there, zero)
        near, along = zero, zero
        first = _start(sample, channel, j, blocks, channels, places, 1, LAST)[:, None]
        first_g = _start(sample, channel, j, blocks, channels, places, R, LAST)[:, None] + r_first * to_activation
        for step in range(steps):
            place = _places((chunk % runs) * steps + step, PLACES, WIDE)[None, :]
            mask = there[:, None] & (place < places)
            raw = tl.load(x + (first + place * to_place), mask, 0.0).to(zero.dtype)
            at = first_g + place * (R * to_place if LAST else 1)
            sums, du = differentiate(
                sums, raw * a + b, g, at, to_activation, mask, weight + j * R + r_first,
                tables + r_first * (K * ROWS), part, K, PIECES, ROWS, SCALE, SHIFT, TOP, BASE, LEAK, EXACT, INPUT, SPAN, R_SPAN,
            )  # fmt: skip
            if INPUT:
                tl.store(dx + (first + place * to_place), du, mask)
                near += du
                along += du * (raw - centre)
        if INPUT:
            _store_pair(
                row_sums, chunk % runs, sample * (blocks * channels) + line, batch * blocks * channels, near, along, there
            )
    store_all_sums(partials + ((worker * blocks + j) * R + r_first) * (M + 1), sums, part, M, SPAN, R_SPAN)


@triton.jit
def _store_pair(row_sums, run, line, count, near, along, there):
    """The sums of a run of tiles."""
    to = row_sums + (run * count + line) * 2
    tl.store(to, tl.sum(near, 1), there)
    tl.store(to + 1, tl.sum(along, 1), there)


@triton.jit(do_not_specialize=["steps"])
def sum_channels_kernel(
    x,
    row_sums,
    batch,
    channels,
    places,
    steps,
    LINES: tl.constexpr,
    PLACES: tl.constexpr,
    LAST: tl.constexpr,
    WIDE: tl.constexpr,
):
    """Σ d and Σ d² of every line, d = x - the first x of that channel: that keeps digits where a mean is large. J is 1."""
    chunk = tl.program_id(0).to(tl.int64) if WIDE else tl.program_id(0)
    runs = tl.cdiv(tl.cdiv(places, PLACES), steps)
    sample, channel, there = _lines(chunk // runs, batch, channels, LINES, LAST, WIDE)
    near = tl.zeros([LINES, PLACES], row_sums.dtype.element_ty)
    along = near
    pivot = _numbers(x, channel if LAST else channel * places, there, near)
    first = _start(sample, channel, 0, 1, channels, places, 1, LAST)[:, None]
    for step in range(steps):
        place = _places((chunk % runs) * steps + step, PLACES, WIDE)[None, :]
        mask = there[:, None] & (place < places)
        raw = tl.load(x + (first + place * (channels if LAST else 1)), mask, 0.0).to(near.dtype)
        d = tl.where(mask, raw - pivot, 0.0)
        near += d
        along += d * d
    _store_pair(row_sums, chunk % runs, sample * channels + channel, batch * channels, near, along, there)


@triton.jit
def mix_channels_kernel(
    g,
    x,
    factor,
    along,
    level,
    out,
    batch,
    channels,
    places,
    own,
    LINES: tl.constexpr,
    PLACES: tl.constexpr,
    LAST: tl.constexpr,
    WIDE: tl.constexpr,
):
    """out = factor g + along x + level; out may be g. A program a tile, J is 1."""
    tile = tl.program_id(0).to(tl.int64) if WIDE else tl.program_id(0)
    across = tl.cdiv(places, PLACES)
    sample, channel, there = _lines(tile // across, batch, channels, LINES, LAST, WIDE)
    place = _places(tile % across, PLACES, WIDE)[None, :]
    mask = there[:, None] & (place < places)
    at = _start(sample, channel, 0, 1, channels, places, 1, LAST)[:, None] + place * (channels if LAST else 1)
    like = tl.zeros([1], level.dtype.element_ty)
    number = sample * own + channel
    mixed = tl.load(x + at, mask, 0.0).to(like.dtype) * _numbers(along, number, there, like) + _numbers(
        level, number, there, like
    )
    mixed += tl.load(g + at, mask, 0.0).to(like.dtype) * _numbers(factor, number, there, like)
    tl.store(out + at, mixed, mask)
