"""The kernels of ``triton_norm`` for a few numbers a channel: one launch each, where plain torch would have a dozen.

Arrays, all contiguous: mean and var (rows, G), numbers of channels (rows, C) with ``each`` = C/G channels a group; rows is the
batch where every sample has statistics of its own, else 1. A program has COLS channels: all of one group (GROUPED), or channels
with a statistic of their own.
"""

import triton
import triton.language as tl


@triton.jit
def _columns(channels, each, COLS: tl.constexpr, GROUPED: tl.constexpr):
    """Channels of the program, and which exist."""
    lane = tl.arange(0, COLS)
    channel = tl.program_id(0) * (each if GROUPED else COLS) + lane
    return channel, (lane < each) & (channel < channels) if GROUPED else channel < channels


@triton.jit
def statistics_kernel(sums, x, mean, var, channels, each, reach, inner, COLS: tl.constexpr, GROUPED: tl.constexpr):
    """Mean and biased variance from Σ d and Σ d² (rows, C, 2) of ``inner`` elements each, d = x - the first x of the channel.

    That is ``reach`` elements after the one of the channel before. Channels of a group join as in Chan et al., 1979.
    """
    row = tl.program_id(1)
    channel, there = _columns(channels, each, COLS, GROUPED)
    at = (row * channels + channel) * 2
    first = tl.load(sums + at, there, 0.0) / inner
    centre = tl.load(x + channel.to(tl.int64) * reach, there, 0.0).to(first.dtype) + first
    spread = tl.maximum(tl.load(sums + at + 1, there, 0.0) / inner - first * first, 0.0, propagate_nan=tl.PropagateNan.ALL)
    if GROUPED:
        joint = tl.sum(tl.where(there, centre, 0.0)) / each
        off = tl.where(there, centre - joint, 0.0)
        to = row * tl.num_programs(0) + tl.program_id(0)
        tl.store(mean + to, joint)
        tl.store(var + to, tl.sum(spread + off * off) / each)
    else:
        tl.store(mean + row * channels + channel, centre, there)
        tl.store(var + row * channels + channel, spread, there)


@triton.jit
def affine_kernel(mean, var, gamma, beta, scale, shift, centre, count, channels, each, EPS: tl.constexpr, BLOCK: tl.constexpr):
    """γ/σ, β - mean γ/σ and the mean of ``count`` = rows·C channels; γ and β may be None for 1 and 0."""
    number = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    there, channel = number < count, number % channels
    group = number // each
    middle, a = tl.load(mean + group, there, 0.0), 1.0 / tl.sqrt(tl.load(var + group, there, 1.0) + EPS)
    if gamma is not None:
        a *= tl.load(gamma + channel, there, 0.0).to(a.dtype)
    b = -middle * a
    if beta is not None:
        b += tl.load(beta + channel, there, 0.0).to(a.dtype)
    tl.store(scale + number, a, there)
    tl.store(shift + number, b, there)
    tl.store(centre + number, middle, there)


@triton.jit
def input_gradient_kernel(
    sums,
    mean,
    var,
    gamma,
    factor,
    along,
    level,
    d_gamma,
    d_beta,
    rows,
    channels,
    each,
    of,
    EPS: tl.constexpr,
    COLS: tl.constexpr,
    ROWS: tl.constexpr,
    GROUPED: tl.constexpr,
):
    """The numbers of ``normalise.InputGradient`` from Σ g and Σ g (x - mean), (rows, C, 2); a statistic is of ``of`` elements."""
    channel, there = _columns(channels, each, COLS, GROUPED)
    of_gamma = tl.zeros([ROWS, COLS], sums.dtype.element_ty)
    of_beta, weight = of_gamma, 1.0
    if gamma is not None:
        weight = tl.load(gamma + channel, there, 0.0).to(of_beta.dtype)[None, :]
    for start in range(0, rows, ROWS):
        row = start + tl.arange(0, ROWS)[:, None]
        mask = (row < rows) & there[None, :]
        number = row * channels + channel[None, :]
        rstd = 1.0 / tl.sqrt(tl.load(var + number // each, mask, 1.0) + EPS)
        total, product = tl.load(sums + number * 2, mask, 0.0), tl.load(sums + number * 2 + 1, mask, 0.0) * rstd
        of_beta += total
        of_gamma += product
        total, product = total * weight, product * weight
        if GROUPED:
            total, product = tl.sum(total, 1)[:, None], tl.sum(product, 1)[:, None]
        slope = product / of * rstd
        tl.store(factor + number, rstd * weight, mask)
        tl.store(along + number, -slope * rstd, mask)
        tl.store(level + number, (slope * tl.load(mean + number // each, mask, 0.0) - total / of) * rstd, mask)
    tl.store(d_gamma + channel, tl.sum(of_gamma, 0), there)
    tl.store(d_beta + channel, tl.sum(of_beta, 0), there)
