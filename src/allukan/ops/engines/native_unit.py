"""A unit for CPUs but its linear maps: norm and φ in one call of compiled code, and their gradients in another.

What ``ops/layer.py`` does step by step for any engine, for the ordinary case: float32, elements in order, statistics of the batch
at hand. Around small maps the steps cost more time than the loops.
"""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor

from allukan.ops.engines.native_conductor import further
from allukan.ops.engines.native_jobs import job, scattered
from allukan.ops.engines.native_norm import address, is_plain
from allukan.ops.engines.native_team import addresses, conducted, team_size
from allukan.ops.normalise import ChannelNorm, Running
from allukan.ops.phi import Phi

_PADDING = bytes(8 * 17)  # of the fields that mixing does not read
Parameters = tuple[Tensor, Tensor, Tensor | None, Tensor | None]  # coef, base_weight, γ, β


class Plan(NamedTuple):
    """What all calls with inputs of one shape have in common.

    Attributes:
        sizes: of the job, packed.
        out: shape of φ(u).
        of_norm: batch, groups, rows of statistics and ε.
        channels: numbers of a scale, rows times channels; 0 without a norm.
        floats: room for scale, shift and mean of every channel, and mean and variance of every statistic.
        sums: room for the float64 sums of a thread, of φ and of the channels.
        fixed: the statistics are given.
    """

    sizes: bytes
    out: torch.Size
    of_norm: tuple[int, int, int, float]
    channels: int
    floats: int
    sums: tuple[int, int]
    fixed: bool = False


def takes(x: Tensor, parameters: Parameters, phi: Phi, norm: ChannelNorm | None, given: bool) -> bool:
    """Whether this is the ordinary case; ``given`` says that the statistics are."""
    if not x.numel() or scattered(x, parameters[0], phi.blocks) or conducted() is None:
        return False
    if norm is not None and (norm.team is not None or norm.fixed is not given or (given and torch.is_grad_enabled())):
        return False
    coef, base_weight, gamma, beta = parameters
    plain = is_plain(x) and is_plain(coef) and is_plain(base_weight)
    return plain and (gamma is None or is_plain(gamma)) and (beta is None or is_plain(beta))


@cache
def plan(phi: Phi, shape: torch.Size, activations: int, norm: ChannelNorm | None) -> Plan:
    """See ``Plan``."""
    out = shape if activations == 1 else torch.Size((shape[0], activations // phi.blocks * shape[1], *shape[2:]))
    of_phi = activations * (phi.coefficients + 1)
    if norm is None:
        return Plan(job(phi, shape, activations, 0), out, (0, 0, 0, 0.0), 0, 0, (of_phi, 0))
    rows, groups = shape[0] if norm.samples else 1, norm.groups or shape[1]
    channels, of_norm = rows * shape[1], (shape[0], groups, rows, norm.eps)
    sums = of_phi, 2 * shape[0] * shape[1]
    return Plan(
        job(phi, shape, activations, channels), out, of_norm, channels, 3 * channels + 2 * rows * groups, sums, norm.fixed
    )


def forward(
    x: Tensor, parameters: Parameters, how: Plan, running: Running | None, numbers: Tensor | None
) -> tuple[Tensor, Tensor | None]:
    """φ(u) and the ``numbers`` of its norm; where they are not given they are found in x, of a fixed norm in ``running``."""
    coef, base_weight, gamma, beta = parameters
    function, tasks = conducted()  # type: ignore[misc]
    out, threads, first, sums = x.new_empty(how.out), team_size(x.numel()), 0, None
    moving, finds = (0, 0, 0.0), numbers is None and how.floats > 0
    if finds:
        numbers = x.new_empty(how.floats)
        if running is not None:
            moving = (running.mean.data_ptr(), running.var.data_ptr(), running.share)
        if not how.fixed:
            sums, first = _room(threads, how.sums[1]), tasks["sum_channels"]
    scale, shift, mean, statistics = _places(numbers, how)
    maps = x.data_ptr(), 0, out.data_ptr(), coef.data_ptr(), base_weight.data_ptr(), 0, scale, shift, mean, address(sums)
    more = threads, address(gamma), address(beta), statistics, *moving, 0, 0, 0, 0, first, tasks["forward"], *how.of_norm
    function("unit_forward" if first else "unit_given")(addresses(*maps) + how.sizes + further(*more))
    if first and running is not None:
        torch.autograd.graph.increment_version(running[:2])
    return out, numbers


def backward(
    grad: Tensor, x: Tensor, parameters: Parameters, how: Plan, numbers: Tensor | None, wanted: bool
) -> tuple[Tensor | None, ...]:
    """Gradients of x, if ``wanted``, coef, base_weight, γ and β from that of φ(u)."""
    coef, base_weight, gamma, beta = parameters
    function, tasks = conducted()  # type: ignore[misc]
    out, threads = torch.empty_like(x), team_size(grad.numel())
    sums, mixing = _room(threads, how.sums[0] + how.sums[1]), x.new_empty(how.floats) if how.floats else None
    grads = [None if t is None else torch.empty_like(t) for t in parameters]
    (scale, shift, mean, statistics), (own, along, level, _) = _places(numbers, how), _places(mixing, how)
    at, result = x.data_ptr(), out.data_ptr()
    theta = coef.data_ptr(), base_weight.data_ptr(), sums.data_ptr()
    maps = at, grad.data_ptr(), result, *theta, scale, shift, mean, theta[2] + 8 * threads * how.sums[0]
    tasks_of = tasks["backward"], tasks["mix_channels"] if wanted else 0
    of_norm = threads, address(gamma), address(beta), statistics, 0, 0, 0.0
    unused = x.new_empty(x.shape[1]) if how.floats and (gamma is None or beta is None) else None  # gradients of what is 1 and 0
    ends = [address(unused if g is None else g) for g in grads]
    job = addresses(*maps) + how.sizes + further(*of_norm, *ends, *tasks_of, *how.of_norm)
    function("unit_backward")(job, addresses(at, 0, result, 0, 0, 0, own, level, along, 0) + how.sizes + _PADDING)
    return (out if wanted else None, *grads)


def _room(threads: int, sums: int) -> Tensor:
    """Sums start as zeros, as fewer threads may come than are asked for."""
    return torch.zeros(threads * sums, dtype=torch.float64, device="cpu")  # whatever the default is


def _places(numbers: Tensor | None, how: Plan) -> tuple[int, int, int, int]:
    """Where scale, shift, mean and the statistics begin."""
    if numbers is None:
        return 0, 0, 0, 0
    first, step = numbers.data_ptr(), 4 * how.channels
    return first, first + step, first + 2 * step, first + 3 * step
