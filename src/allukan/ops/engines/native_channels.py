"""What ``native`` does with a scale and a shift a channel, and with sums a channel: the loops of normalisation.

Compiled by numba. Tensors are contiguous ``(B, C, *S)``; a row is one channel of one sample, ``inner`` elements long. ``scale``,
``shift`` and ``mean`` have ``period`` values: C, or B·C where every sample has its own.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

from allukan.ops.engines.native_elements import entry, jit, jit_sums, pointer

# the loops take slices from 0 on: of an index that starts anywhere the compiler does not know that it is not negative


@jit
def _line(x: Any, scale: Any, shift: Any, out: Any) -> None:
    for i in range(x.size):
        out[i] = x[i] * scale + shift


@jit
def scale_and_shift(x: Any, first: int, inner: int, scale: Any, shift: Any, out: Any) -> None:
    """out = scale x + shift of a run of elements, of which ``first`` is the number."""
    done = 0
    while done < x.size:
        row = (first + done) // inner
        end = min(x.size, (row + 1) * inner - first)
        _line(x[done:end], scale[row % scale.size], shift[row % scale.size], out[done:end])
        done = end


@jit_sums
def _sum_and_product(g: Any, x: Any, mean: Any) -> tuple[Any, Any]:
    total, along = np.float32(0), np.float32(0)
    for i in range(x.size):
        total += g[i]
        along += g[i] * (x[i] - mean)
    return total, along


@jit
def collect_rows(x: Any, g: Any, first: int, inner: int, mean: Any, sums: Any) -> None:
    """Adds Σ g and Σ g (x - mean) of a run to those of its rows, ``(rows, 2)`` in float64."""
    done = 0
    while done < x.size:
        row = (first + done) // inner
        end = min(x.size, (row + 1) * inner - first)
        total, along = _sum_and_product(g[done:end], x[done:end], mean[row % mean.size])
        sums[row, 0] += total
        sums[row, 1] += along
        done = end


@jit
def sum_rows(x: Any, first: int, last: int, inner: int, channels: int, sums: Any, run: int) -> None:
    """Adds Σ d and Σ d² of elements first … last - 1 to those of their rows, d = x - the first x of that channel."""
    while first < last:
        row = first // inner
        end = min(last, (row + 1) * inner, first + run)
        part = x[first:end]
        total, square = _sum_and_product_of(part, x[row % channels * inner])
        sums[row, 0] += total
        sums[row, 1] += square
        first = end


@jit_sums
def _sum_and_product_of(x: Any, pivot: Any) -> tuple[Any, Any]:
    total, square = np.float32(0), np.float32(0)
    for i in range(x.size):
        d = x[i] - pivot
        total += d
        square += d * d
    return total, square


@jit
def _mix(x: Any, g: Any, own: Any, along: Any, level: Any) -> None:
    for i in range(x.size):
        g[i] = own * g[i] + (along * x[i] + level)


@jit
def mix(x: Any, g: Any, first: int, last: int, inner: int, own: Any, along: Any, level: Any) -> None:
    """g = own g + along x + level, in place, of elements first … last - 1."""
    while first < last:
        row = first // inner
        end = min(last, (row + 1) * inner)
        _mix(x[first:end], g[first:end], own[row % own.size], along[row % own.size], level[row % own.size])
        first = end


@jit
def _floats(address: int, size: int) -> Any:
    return numba.carray(pointer(address), size, np.float32)


@jit
def _sums(address: int, threads: int, rows: int) -> Any:
    return numba.carray(pointer(address), (threads, rows, 2), np.float64)


@jit
def _row_statistics(sums: Any, row: int, pivot: Any, inner: int) -> tuple[float, float]:
    """Mean of a row and its sum of squares around that, in float64."""
    first, second = 0.0, 0.0
    for t in range(sums.shape[0]):
        first += sums[t, row, 0]
        second += sums[t, row, 1]
    return pivot + first / inner, second - first * first / inner


@entry
def finish_statistics(
    sums: int, threads: int, x: int, out: int, batch: int, channels: int, groups: int, samples: int, inner: int
) -> None:
    """Mean and biased variance ``(2, B or 1, G)`` from the sums of all threads; rows join one by one (Chan et al., 1979)."""
    each, rows, per = channels // groups, batch if samples else 1, 1 if samples else batch
    parts, found = _sums(sums, threads, batch * channels), numba.carray(pointer(out), (2, rows * groups), np.float32)
    values = _floats(x, batch * channels * inner)
    for s in range(rows * groups):
        centre, spread = 0.0, 0.0
        for i in range(per * each):
            channel = s % groups * each + i % each
            own, around = _row_statistics(parts, (s // groups + i // each) * channels + channel, values[channel * inner], inner)
            off = own - centre
            centre += off / (i + 1)
            spread += around + inner * off * off * i / (i + 1)
        found[0, s], found[1, s] = centre, max(spread, 0.0) / (per * each * inner)


@entry
def track(mean: int, var: int, running_mean: int, running_var: int, size: int, share: float, unbiased: float) -> None:
    """Moves running statistics by this share to those of a batch, whose variance is multiplied by ``unbiased``."""
    means, variances = _floats(mean, size), _floats(var, size)
    tracked, spread = _floats(running_mean, size), _floats(running_var, size)
    for i in range(size):
        tracked[i] += share * (means[i] - tracked[i])
        spread[i] += share * (variances[i] * unbiased - spread[i])


@entry
def fold(mean: int, var: int, gamma: int, beta: int, out: int, rows: int, channels: int, groups: int, eps: float) -> None:
    """γ/σ, β - mean γ/σ and the mean of every channel, ``(3, rows, C)``."""
    means, variances, each = _floats(mean, rows * groups), _floats(var, rows * groups), channels // groups
    weights, biases = _floats(gamma, channels), _floats(beta, channels)
    numbers = numba.carray(pointer(out), (3, rows * channels), np.float32)
    for i in range(rows * channels):
        c, s = i % channels, i // channels * groups + i % channels // each
        a = (weights[c] if gamma else 1.0) / np.sqrt(np.float64(variances[s]) + eps)
        numbers[0, i], numbers[1, i], numbers[2, i] = a, (biases[c] if beta else 0.0) - means[s] * a, means[s]


@entry
def settle(found: Any, given: Any, running: Any, sizes: Any, eps: float) -> None:
    """``finish_statistics``, ``track`` and ``fold`` of a batch.

    ``found`` are the addresses of the sums, x, the statistics and the numbers of every channel, ``given`` those of γ and β,
    ``running`` those of the running mean and variance, 0 for none, and their share; ``sizes`` are threads, batch, channels,
    groups, samples and inner.
    """
    (sums, x, statistics, numbers), (gamma, beta), (running_mean, running_var, share) = found, given, running
    threads, batch, channels, groups, samples, inner = sizes
    finish_statistics(sums, threads, x, statistics, batch, channels, groups, samples, inner)
    rows = batch if samples else 1
    var, of = statistics + 4 * rows * groups, batch * channels * inner // (rows * groups)
    if running_mean:
        track(statistics, var, running_mean, running_var, groups, share, of / max(1, of - 1))
    fold(statistics, var, gamma, beta, numbers, rows, channels, groups, eps)


@entry
def finish_gradient(sums: int, threads: int, found: Any, gamma: int, out: Any, batch: int, channels: int, eps: float) -> None:
    """own, along and level of the gradient of x ``(3, B or 1, C)``, and those of γ and β, from the sums of all threads.

    ``out`` are the addresses of these three, ``found`` those of mean and variance ``(rows, groups)``, these two, and of how many
    elements each is; 0 elements say that x has no part in them.
    """
    mean_at, var_at, rows, groups, count = found
    mean, var = (
        numba.carray(pointer(mean_at), (rows, groups), np.float32),
        numba.carray(pointer(var_at), (rows, groups), np.float32),
    )
    parts, each, per = _sums(sums, threads, batch * channels), channels // groups, batch // rows
    weights, numbers = _floats(gamma, channels), numba.carray(pointer(out[0]), (3, rows, channels), np.float32)
    d_gamma, d_beta = _floats(out[1], channels), _floats(out[2], channels)
    for c in range(channels):
        d_gamma[c] = d_beta[c] = 0
    for s in range(rows * groups):
        b, group, level, slope = s // groups, s % groups, 0.0, 0.0
        rstd = 1 / np.sqrt(np.float64(var[b, group]) + eps)
        for c in range(group * each, (group + 1) * each):
            total, along = 0.0, 0.0
            for t in range(threads):
                for i in range(b, b + per):
                    total += parts[t, i * channels + c, 0]
                    along += parts[t, i * channels + c, 1] * rstd
            weight = np.float64(weights[c]) if gamma else 1.0
            level += weight * total
            slope += weight * along
            d_gamma[c] += along
            d_beta[c] += total
            numbers[0, b, c] = weight * rstd
        level = level / count if count else 0.0
        slope = slope / count if count else 0.0
        for c in range(group * each, (group + 1) * each):
            numbers[1, b, c] = -rstd * rstd * slope
            numbers[2, b, c] = rstd * rstd * slope * mean[b, group] - rstd * level
