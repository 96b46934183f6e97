"""The kernels of ``triton_engine`` with two numbers a channel in front of φ, and those that sum and mix channels.

A line is one channel of one sample. Arrays: x and dx of batch × J·channels lines of ``places`` elements, y and g of R times as
many; contiguous, or (LAST) channels-last: a place with all its channels after the other. A tile is LINES lines × PLACES places
of one block, the transpose where LAST and then of one sample: neighbours in memory are neighbours in a row. scale, shift and
mean have a number a channel; ``own`` further on is that of the next sample, 0 says that it has none. A program walks over runs
of ``steps`` tiles along the same lines. Sums a line go to ``row_sums`` (runs, batch·J·channels, 2), each written once.
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
def _to_activation(channels, places, LAST: tl.constexpr, WIDE: tl.constexpr):
    """How far the next activation of a channel is."""
    return channels if LAST else (tl.cast(channels, tl.int64) if WIDE else channels) * places


@triton.jit
def _by_line(values, LAST: tl.constexpr):
    """One a line, against a tile."""
    return values[None, :] if LAST else values[:, None]


@triton.jit
def _numbers(values, at, there, like, LAST: tl.constexpr):
    """Likewise, loaded, in the type of ``like``."""
    return _by_line(tl.load(values + at, there, 0.0).to(like.dtype), LAST)


@triton.jit
def _places(tile, PLACES: tl.constexpr, LAST: tl.constexpr, WIDE: tl.constexpr):
    """The places of a tile, one a place against it."""
    lane = tl.arange(0, PLACES)
    place = tile * PLACES + (lane.to(tl.int64) if WIDE else lane)
    return place[:, None] if LAST else place[None, :]


@triton.jit
def _zeros(LINES: tl.constexpr, PLACES: tl.constexpr, LAST: tl.constexpr, dtype: tl.constexpr):
    """A tile of them."""
    return tl.zeros([PLACES, LINES] if LAST else [LINES, PLACES], dtype)


@triton.jit
def _store_pair(row_sums, run, line, count, near, along, there, LAST: tl.constexpr):
    """The sums of a run of tiles, by line."""
    to = row_sums + (run * count + line) * 2
    tl.store(to, tl.sum(near, 0 if LAST else 1), there)
    tl.store(to + 1, tl.sum(along, 0 if LAST else 1), there)


@triton.jit(do_not_specialize=["steps"])
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
    steps,
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
    zero = _zeros(LINES, PLACES, LAST, tables.dtype.element_ty)
    runs = tl.cdiv(tl.cdiv(places, PLACES), steps)
    to_place, to_activation = blocks * channels if LAST else 1, _to_activation(channels, places, LAST, WIDE)
    chunks = _groups(batch, channels, LINES, LAST) * runs
    for chunk in range(worker.to(tl.int64) if WIDE else worker, chunks, tl.num_programs(1)):
        sample, channel, there = _lines(chunk // runs, batch, channels, LINES, LAST, WIDE)
        number = sample * own + j * channels + channel
        a, b = (_numbers(scale, number, there, zero, LAST), _numbers(shift, number, there, zero, LAST))
        first = _by_line(_start(sample, channel, j, blocks, channels, places, 1, LAST), LAST)
        first_y = _by_line(_start(sample, channel, j, blocks, channels, places, R, LAST), LAST)
        for step in range(steps):
            place = _places((chunk % runs) * steps + step, PLACES, LAST, WIDE)
            mask = _by_line(there, LAST) & (place < places)
            values = tl.load(x + (first + place * to_place), mask, 0.0).to(zero.dtype) * a + b
            at = first_y + place * (R * to_place if LAST else 1)
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
    zero = _zeros(LINES, PLACES, LAST, partials.dtype.element_ty)
    sums = (zero,) * (R_SPAN * (SPAN + 1))
    runs = tl.cdiv(tl.cdiv(places, PLACES), steps)
    to_place, to_activation = blocks * channels if LAST else 1, _to_activation(channels, places, LAST, WIDE)
    chunks = _groups(batch, channels, LINES, LAST) * runs
    for chunk in range(worker.to(tl.int64) if WIDE else worker, chunks, tl.num_programs(1)):
        sample, channel, there = _lines(chunk // runs, batch, channels, LINES, LAST, WIDE)
        line = j * channels + channel
        a, b = (_numbers(scale, sample * own + line, there, zero, LAST), _numbers(shift, sample * own + line, there, zero, LAST))
        centre = _numbers(mean, sample * own + line, there, zero, LAST)
        near, along = zero, zero
        first = _by_line(_start(sample, channel, j, blocks, channels, places, 1, LAST), LAST)
        first_g = _by_line(_start(sample, channel, j, blocks, channels, places, R, LAST), LAST) + r_first * to_activation
        for step in range(steps):
            place = _places((chunk % runs) * steps + step, PLACES, LAST, WIDE)
            mask = _by_line(there, LAST) & (place < places)
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
            to = sample * (blocks * channels) + line
            _store_pair(row_sums, chunk % runs, to, batch * blocks * channels, near, along, there, LAST)
    store_all_sums(partials + ((worker * blocks + j) * R + r_first) * (M + 1), sums, part, M, SPAN, R_SPAN)


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
    near = _zeros(LINES, PLACES, LAST, row_sums.dtype.element_ty)
    along = near
    pivot = _numbers(x, channel if LAST else channel * places, there, near, LAST)
    first = _by_line(_start(sample, channel, 0, 1, channels, places, 1, LAST), LAST)
    for step in range(steps):
        place = _places((chunk % runs) * steps + step, PLACES, LAST, WIDE)
        mask = _by_line(there, LAST) & (place < places)
        raw = tl.load(x + (first + place * (channels if LAST else 1)), mask, 0.0).to(near.dtype)
        d = tl.where(mask, raw - pivot, 0.0)
        near += d
        along += d * d
    _store_pair(row_sums, chunk % runs, sample * channels + channel, batch * channels, near, along, there, LAST)


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
    place = _places(tile % across, PLACES, LAST, WIDE)
    mask = _by_line(there, LAST) & (place < places)
    at = _by_line(_start(sample, channel, 0, 1, channels, places, 1, LAST), LAST) + place * (channels if LAST else 1)
    like = tl.zeros([1], level.dtype.element_ty)
    number = sample * own + channel
    mixed = tl.load(x + at, mask, 0.0).to(like.dtype) * _numbers(along, number, there, like, LAST)
    mixed += _numbers(level, number, there, like, LAST)
    mixed += tl.load(g + at, mask, 0.0).to(like.dtype) * _numbers(factor, number, there, like, LAST)
    tl.store(out + at, mixed, mask)
