"""A whole KA layer, φ and the linear map after it, as one differentiable operation."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import Function

from allukan.ops import expansion, spline_autograd
from allukan.ops.autograd import differentiable_once
from allukan.ops.engines.dispatch import COMPOSED, choose
from allukan.ops.expansion import base_backward, expand, expand_backward
from allukan.ops.linear_maps import LinearMap
from allukan.ops.phi import Phi
from allukan.ops.subclasses import through_subclasses
from allukan.ops.tracing import sees_operators, sizes, transforms

ONCE = "a KA layer is differentiable once; use Spline(impl='reference') where a second derivative is needed"
_CHUNK = 1 << 25  # elements of the expanded basis that exist at once


@through_subclasses
def ka_layer(
    x: Tensor,
    coef: Tensor,
    base_weight: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    phi: Phi,
    linear: LinearMap,
) -> Tensor:
    """y = linear(φ(x), weight, bias), differentiable in every tensor; the arguments are those of a KA layer and are not checked.

    What is saved for the backward pass is x, and φ(x) unless ``phi.recompute``; the expanded basis never is. Under
    ``torch.compile``, ``torch.export`` and ``torch.func``, and for ``impl="reference"`` and ``"aten"``, it is composed of
    separate operations.

    Source: KA layer and KAonv layer of arXiv 2602.03156.
    """
    engine = choose(phi, x.device.type, x.dtype)
    if sees_operators() or transforms() or engine in COMPOSED:
        return _composed(x, coef, base_weight, weight, bias, phi, engine, linear)
    if phi.expanded:
        return _Expanded.apply(x, coef, base_weight, weight, bias, phi, linear)
    return _Shared.apply(x, coef, base_weight, weight, bias, phi, engine, linear)


def _composed(
    x: Tensor,
    coef: Tensor,
    base_weight: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    phi: Phi,
    engine: str,
    linear: LinearMap,
) -> Tensor:
    """The same of separate operations, each differentiable by itself."""
    if phi.expanded:
        h = expansion.apply(x, phi, engine).flatten(1, 2)
        return _combine(linear, x, h, compose(coef, base_weight, weight), bias)
    room = _headroom(x, base_weight)
    if room is not None:
        coef, base_weight, weight = coef.float() / room, base_weight.float() / room, weight * room
    return _combine(linear, x, spline_autograd.apply(x, coef, base_weight, phi, engine), weight, bias)


def compose(coef: Tensor, base_weight: Tensor, weight: Tensor) -> Tensor:
    """Weights ``(C', C·(M + 1), *kernel)`` of the linear map behind ``basis_expansion``.

    An activation an edge (coef ``(weight.numel(), M)``): w_qp for the base and λ_qp c_qpm for the spline. Shared ones ``(A, M)``:
    λ_qp w_a(q) and λ_qp c_a(q)m.
    """
    shape, activations = sizes(weight), sizes(coef)[0]
    if activations == shape.numel():
        stacked = torch.cat([base_weight.unsqueeze(-1), coef * weight.reshape(-1, 1)], dim=-1).view(*shape, -1)
    else:
        shared = torch.cat([base_weight.unsqueeze(-1), coef], dim=-1)
        each = shared.repeat_interleave(shape[0] // activations, dim=0)
        stacked = weight.unsqueeze(-1) * each.view(shape[0], *[1] * (weight.ndim - 1), -1)
    return stacked.movedim(-1, 2).flatten(1, 2)


def _autocast(x: Tensor) -> torch.dtype | None:
    """What autocast makes of the arguments of a convolution on the device of x."""
    if x.is_meta or not torch.is_autocast_enabled(x.device.type):  # "meta" knows no autocast
        return None
    return torch.get_autocast_dtype(x.device.type)


def _headroom(x: Tensor, base_weight: Tensor) -> Tensor | None:
    """What φ is divided by, and λ multiplied with, where φ(x) is float16: the largest |w|, at least 1, up to a power of two.

    φ(x) grows as w x, w is 2.8 at the start, and float16 ends at 65504: without it the layer would be infinite from 23,400 on,
    where a convolution is not. With it φ(x) is about as large as x; a power of two changes no bit of the output.
    """
    if x.dtype is not torch.float16 and (x.dtype is torch.float64 or _autocast(x) is not torch.float16):
        return None
    largest = base_weight.detach().float().abs().amax().clamp(min=1)
    return torch.exp2(torch.ceil(torch.log2(largest)))


def _to_autocast(x: Tensor, *tensors: Tensor | None) -> list[Tensor | None]:
    """What autocast would make of them."""
    dtype = _autocast(x)
    if dtype is None:
        return list(tensors)
    return [t if t is None or t.dtype == torch.float64 else t.to(dtype) for t in tensors]


def _combine(linear: LinearMap, x: Tensor, *tensors: Tensor | None) -> Tensor:
    """The linear map under autocast, which on a CPU does not know the operator of the convolution."""
    h, w, b = _to_autocast(x, *tensors)
    assert h is not None
    assert w is not None
    return linear.forward(h, w, b)


def _in(dtype: torch.dtype, *tensors: Tensor | None) -> list[Tensor | None]:
    return [t if t is None or t.dtype is dtype else t.to(dtype) for t in tensors]


class _Shared(Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        coef: Tensor,
        base_weight: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        phi: Phi,
        engine: str,
        linear: LinearMap,
    ) -> Tensor:
        room = _headroom(x, base_weight)
        h, w, b = _to_autocast(x, _activate(x, coef, base_weight, phi, engine, room), _times(weight, room), bias)
        assert h is not None
        assert w is not None
        ctx.save_for_backward(x, coef, base_weight, weight, *(() if phi.recompute else (h,)))
        ctx.how, ctx.linear, ctx.biased = (phi, engine), linear, bias is not None and ctx.needs_input_grad[4]
        ctx.room = room
        return linear.forward(h, w, b)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple:
        wanted = ctx.needs_input_grad[3], ctx.biased
        grads = differentiable_once(ONCE, _shared_backward, grad, *ctx.how, ctx.linear, wanted, ctx.room, *ctx.saved_tensors)
        return (*grads, None, None, None)


def _shared_backward(
    grad: Tensor,
    phi: Phi,
    engine: str,
    linear: LinearMap,
    wanted: tuple[bool, bool],
    room: Tensor | None,
    x: Tensor,
    coef: Tensor,
    base_weight: Tensor,
    weight: Tensor,
    h: Tensor | None = None,
) -> tuple:
    h = _activate(x, coef, base_weight, phi, engine, room) if h is None else h
    activated, factors = _in(grad.dtype, h, weight)
    assert activated is not None
    assert factors is not None
    grad_h, grad_weight, grad_bias = linear.backward(grad, activated, factors, (True, *wanted))
    assert grad_h is not None
    grads = spline_autograd.backward(grad_h, x, coef, base_weight, phi, engine)
    grad_weight, grad_bias = _in(weight.dtype, grad_weight, grad_bias)
    return (*grads, None if grad_weight is None else _times(grad_weight, room), grad_bias)


def _activate(x: Tensor, coef: Tensor, base_weight: Tensor, phi: Phi, engine: str, room: Tensor | None) -> Tensor:
    """φ(x), or φ(x) / room."""
    scaled = (coef, base_weight) if room is None else (coef / room, base_weight / room)
    return spline_autograd.forward(x, *scaled, phi, engine)


def _times(tensor: Tensor, room: Tensor | None) -> Tensor:
    return tensor if room is None else tensor * room


class _Expanded(Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        coef: Tensor,
        base_weight: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        phi: Phi,
        linear: LinearMap,
    ) -> Tensor:
        w, b = _to_autocast(x, compose(coef, base_weight, weight), bias)
        assert w is not None
        ctx.save_for_backward(x, coef, base_weight, weight)
        ctx.phi, ctx.linear, ctx.biased = phi, linear, bias is not None and ctx.needs_input_grad[4]
        return torch.cat([linear.forward(_expand(part, phi, w.dtype), w, b) for part in _parts(x, phi)])

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple:
        grads = differentiable_once(ONCE, _expanded_backward, grad, ctx.phi, ctx.linear, ctx.biased, *ctx.saved_tensors)
        return (*grads, None, None)


def _expanded_backward(grad: Tensor, phi: Phi, linear: LinearMap, biased: bool, x: Tensor, *parameters: Tensor) -> tuple:
    leaves = [p.detach().requires_grad_() for p in parameters]
    with torch.enable_grad():
        composed = compose(*leaves)
    parts = _parts(x, phi)
    wide, grad_x, grad_bias = torch.zeros_like(composed), [], None
    w = composed.detach().to(grad.dtype)
    for part, g in zip(parts, grad.split([len(part) for part in parts]), strict=True):
        grad_h, grad_weight, bias = linear.backward(g, _expand(part, phi, g.dtype), w, (phi.exact, True, biased))
        assert grad_weight is not None
        if grad_h is not None:
            grad_x.append(expand_backward(grad_h.unflatten(1, (part.shape[1], -1)), part, phi))
        else:  # Grad-Free: the input hears of the base channels alone, a (M + 1)-th of the product
            grad_b, _, _ = linear.backward(g, part.to(g.dtype), w[:, :: phi.coefficients + 1], (True, False, False))
            assert grad_b is not None
            grad_x.append(base_backward(grad_b, part, phi.base))
        wide += grad_weight
        grad_bias = bias if grad_bias is None or bias is None else grad_bias + bias
    return torch.cat(grad_x), *torch.autograd.grad(composed, leaves, wide), *_in(parameters[2].dtype, grad_bias)


def _expand(x: Tensor, phi: Phi, dtype: torch.dtype) -> Tensor:
    return expand(x, phi).flatten(1, 2).to(dtype)


def _parts(x: Tensor, phi: Phi) -> tuple[Tensor, ...]:
    """Samples that are expanded together."""
    per_sample = max(1, x[:1].numel()) * (phi.coefficients + 1)
    return x.split(max(1, _CHUNK // per_sample))
