"""A KA layer where nothing is out of the ordinary, as an ``autograd.Function`` with as little Python as can be around the loops.

``ops/layer.py`` says what a layer is, and computes it everywhere else; here it is the same, with the same things kept.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import Function

from allukan.ops.autograd import differentiable_once
from allukan.ops.engines import dispatch
from allukan.ops.linear_maps import LinearMap, Mapped
from allukan.ops.normalise import ChannelNorm, Norm, RowNorm, Running, rows_gradient, rows_normalised
from allukan.ops.phi import Phi
from allukan.ops.tracing import has_tangents, unobserved

ONCE = "a KA layer is differentiable once; use Spline(impl='reference') where a second derivative is needed"
_WITHOUT = Norm(None, None, None)  # type: ignore[arg-type]


class _How(NamedTuple):
    unit: ModuleType
    plan: Any
    rows: RowNorm | None  # applied before
    running: Running | None
    recompute: bool
    linears: list[LinearMap]


def ordinary(
    x: Tensor, coef: Tensor, base_weight: Tensor, phi: Phi, norm: Norm | None, maps: tuple[Mapped, ...]
) -> tuple[Tensor, ...] | None:
    """``ka_layer``, or None where something is out of the ordinary."""
    kind, gamma, beta, found, running = norm or _WITHOUT
    if phi.expanded or not unobserved(x):
        return None
    device, rows = x.device.type, kind if isinstance(kind, RowNorm) else None
    unit = dispatch.unit(phi, device, x.dtype)
    if unit is None or torch.is_autocast_enabled(device) or any(m.weight.dtype is not x.dtype for m in maps):
        return None
    if rows is not None and x.ndim > 2:  # the channels of a place do not lie side by side
        return None
    if found is not None:
        running = Running(found.mean, found.var, 0.0)
    parameters, channels = (coef, base_weight, gamma, beta), kind if isinstance(kind, ChannelNorm) else None
    if running is not None and running.mean.dtype is not torch.float32:
        return None
    if channels is not None:
        x = x.contiguous()  # once, not for every loop
    if not unit.takes(x, parameters, phi, channels, found is not None):
        return None
    how = _How(unit, unit.plan(phi, x.shape, len(coef), channels), rows, running, phi.recompute, [m.linear for m in maps])
    if not torch.is_grad_enabled() and not has_tangents():
        h = _activated(x, parameters, how, None)[0]
        return tuple([m.linear.forward(h, m.weight, m.bias) for m in maps])
    return _Ordinary.apply(x, *parameters, how, *[t for _, *pair in maps for t in pair])  # type: ignore[no-any-return]


def _activated(x: Tensor, parameters: tuple, how: _How, numbers: Tensor | None) -> tuple[Tensor, Tensor | None, Any]:
    """φ(u), the numbers of its norm, and what a norm of rows made: u, means and 1/σ."""
    if how.rows is None:
        return *how.unit.forward(x, parameters, how.plan, how.running if numbers is None else None, numbers), None
    coef, base_weight, gamma, beta = parameters
    made = rows_normalised(x, gamma, beta, how.rows)
    return *how.unit.forward(made[0], (coef, base_weight, None, None), how.plan, None, None), made


class _Ordinary(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, *given: Any) -> tuple[Tensor, ...]:
        parameters, how, tensors = given[:4], given[4], given[5:]
        h, numbers, _ = _activated(x, parameters, how, None)
        ctx.save_for_backward(x, *parameters, numbers, None if how.recompute else h, *tensors)
        ctx.how = how
        pairs = zip(how.linears, tensors[::2], tensors[1::2], strict=True)
        return tuple([linear.forward(h, weight, bias) for linear, weight, bias in pairs])

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple:
        device = grads[0].device.type
        if torch.is_autocast_enabled(device):  # which was off in the forward pass: what is read by address is as it was there
            with torch.autocast(device, enabled=False):
                return differentiable_once(ONCE, _backward, ctx.how, ctx.needs_input_grad, *grads, *ctx.saved_tensors)
        return differentiable_once(ONCE, _backward, ctx.how, ctx.needs_input_grad, *grads, *ctx.saved_tensors)


def _backward(how: _How, needs: tuple[bool, ...], *given: Any) -> tuple:
    count = len(how.linears)
    grads, (x, coef, base_weight, gamma, beta, numbers, h, *tensors) = given[:count], given[count:]
    parameters, made = (coef, base_weight, gamma, beta), None
    if h is None or how.rows is not None:
        again, _, made = _activated(x, parameters, how, numbers)
        h = again if h is None else h
    grad_h, of_maps = None, []
    for i, linear in enumerate(how.linears):
        weight, bias = tensors[2 * i : 2 * i + 2]
        wanted = (True, needs[6 + 2 * i], bias is not None and needs[7 + 2 * i])
        part, *others = linear.backward(grads[i], h, weight, wanted)
        grad_h = part if grad_h is None or part is None else grad_h + part
        of_maps += others
    assert grad_h is not None
    grad_h = grad_h.contiguous()
    if made is None:
        return *how.unit.backward(grad_h, x, parameters, how.plan, numbers, needs[0]), None, *of_maps
    u, mean, rstd = made
    inner, *of_phi = how.unit.backward(grad_h, u, (coef, base_weight, None, None), how.plan, None, True)
    grad_x, *of_norm = rows_gradient(inner, x, mean, rstd, gamma, beta)
    return grad_x, *of_phi[:2], *of_norm, None, *of_maps
