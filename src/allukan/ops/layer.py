"""A whole KA layer, normalisation, φ and the linear map after it, as one differentiable operation that keeps its input."""

from __future__ import annotations

from collections.abc import Sequence
from types import ModuleType
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import Function

from allukan.ops import expansion, normalise, spline_autograd
from allukan.ops.autograd import differentiable_once
from allukan.ops.engines.dispatch import COMPOSED, choose
from allukan.ops.expansion import base_backward, expand, expand_backward
from allukan.ops.linear_maps import LinearMap
from allukan.ops.linear_maps import Mapped as Mapped
from allukan.ops.normalise import Affine, ChannelNorm, Norm, RowNorm, Running, Statistics
from allukan.ops.ordinary import ONCE, ordinary
from allukan.ops.phi import Phi
from allukan.ops.spline_autograd import tools
from allukan.ops.subclasses import through_subclasses
from allukan.ops.tracing import has_tangents, sees_operators, sizes, transforms

_WITHOUT = (None,) * 5  # norm
_CHUNK = 1 << 25  # elements of the expanded basis that exist at once


class _How(NamedTuple):
    phi: Phi
    engine: str
    linears: tuple[LinearMap, ...]
    norm: ChannelNorm | RowNorm | None
    of: int  # elements a statistic, where it is given
    running: Running | None


@through_subclasses
def ka_layer(
    x: Tensor, coef: Tensor, base_weight: Tensor, phi: Phi, norm: Norm | None, maps: tuple[Mapped, ...]
) -> tuple[Tensor, ...]:
    """y = linear(φ(u), weight, bias) of every map, with u = x or, with a ``norm``, u = γ x̂ + β; differentiable in every tensor.

    The arguments are those of a KA layer and are not checked; the expanded basis takes one map, and a norm is taken where
    there are ``norm_functions``. What is saved for the backward pass is x, a few numbers a channel, and φ(u) unless
    ``phi.recompute``; neither x̂ nor u nor the expanded basis ever are. Under ``torch.compile``, ``torch.export`` and
    ``torch.func``, and for ``impl="reference"`` and ``"aten"``, it is composed of separate operations.

    Source: KA layer and KAonv layer of arXiv 2602.03156.
    """
    if not sees_operators():
        _check(x, coef, base_weight, phi, norm, maps)
    outputs = ordinary(x, coef, base_weight, phi, norm, maps)
    if outputs is not None:
        return outputs
    engine = choose(phi, x.device.type, x.dtype)
    if not _fuses(engine):
        return _composed(x, coef, base_weight, phi, engine, norm, maps)
    kind, gamma, beta, found, running = norm or _WITHOUT
    mean, var, of = found or (None, None, 0)
    tensors = [t for _, *pair in maps for t in pair]
    how = _How(phi, engine, tuple([m.linear for m in maps]), kind, of, running)
    if phi.expanded:
        return _Expanded.apply(x, coef, base_weight, gamma, beta, mean, var, how, *tensors)  # type: ignore[no-any-return]
    if not torch.is_grad_enabled() and not has_tangents():  # the function costs more than a small layer
        ours = tools(engine, x, coef, base_weight)
        return _outputs(_enter(x, gamma, beta, mean, var, how, ours), coef, base_weight, how, maps, ours)[0]
    return _Shared.apply(x, coef, base_weight, gamma, beta, mean, var, how, *tensors)  # type: ignore[no-any-return]


def _check(x: Tensor, coef: Tensor, base_weight: Tensor, phi: Phi, norm: Norm | None, maps: tuple[Mapped, ...]) -> None:
    """What torch would refuse, before memory is read by address: other devices, and parameters of other sizes than φ has."""
    device, (gamma, beta) = x.device, norm[1:3] if norm else (None, None)
    for tensor in (coef, base_weight, gamma, beta, *[m.weight for m in maps]):
        if tensor is not None and tensor.device != device:
            raise ValueError(f"the layer is on {tensor.device} and x on {device}: move one of them")
    if coef.numel() != phi.coefficients * base_weight.numel():
        sizes_of = f"coef {tuple(coef.shape)} and base_weight {tuple(base_weight.shape)}"
        raise ValueError(f"{sizes_of} do not fit: a row of coef has {phi.coefficients} numbers, and base_weight one a row")


def norm_functions(x: Tensor, phi: Phi) -> ModuleType | None:
    """What makes the statistics of ``Norm.found``: the functions of ``ops.normalise``, the fastest for x.

    ``ops.normalise`` itself, differentiable, for ``torch.compile``. None where a norm is an operation of its own.
    """
    engine = choose(phi, x.device.type, x.dtype)
    if _fuses(engine):
        return tools(engine, x).NORM  # type: ignore[no-any-return]
    return normalise if sees_operators() and engine not in COMPOSED and not phi.expanded else None


def _fuses(engine: str) -> bool:
    return not (sees_operators() or transforms() or engine in COMPOSED)


def _composed(
    x: Tensor, coef: Tensor, base_weight: Tensor, phi: Phi, engine: str, norm: Norm | None, maps: tuple[Mapped, ...]
) -> tuple[Tensor, ...]:
    """The layer of separate operations, each differentiable by itself."""
    if phi.expanded:
        ((linear, weight, bias),) = maps
        h = expansion.apply(x, phi, engine).flatten(1, 2)
        return (_combine(linear, _autocast(x), h, compose(coef, base_weight, weight, phi.edges), bias),)
    cast = _autocast(x)
    room = _headroom(x, base_weight)
    if room is not None:
        coef, base_weight = coef.float() / room, base_weight.float() / room
    if norm is None:
        h = spline_autograd.apply(x, coef, base_weight, phi, engine)
    else:
        to = normalise.affine(*_found(norm), x.shape[1])
        h = spline_autograd.apply_normalised(x, coef, base_weight, to, phi, engine)
    return tuple(_combine(m.linear, cast, h, _times(m.weight, room), m.bias) for m in maps)


def _found(norm: Norm) -> tuple[Statistics, Tensor | None, Tensor | None, ChannelNorm]:
    assert isinstance(norm.how, ChannelNorm)
    assert norm.found is not None
    return norm.found, norm.gamma, norm.beta, norm.how


def compose(coef: Tensor, base_weight: Tensor, weight: Tensor, edges: bool) -> Tensor:
    """Weights ``(C', C·(M + 1), *kernel)`` of the linear map behind ``basis_expansion``.

    An activation an edge (``edges``, coef ``(weight.numel(), M)``): w_qp for the base and λ_qp c_qpm for the spline. Shared ones
    ``(A, M)``: λ_qp w_a(q) and λ_qp c_a(q)m.
    """
    shape, activations = sizes(weight), sizes(coef)[0]
    if edges:
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

    φ(x) grows as w x, w is 2.8 at the start of a layer without a norm, and float16 ends at 65504: without it the layer would be
    infinite from 23,400 on, where a convolution is not. With it φ(x) is about as large as x; a power of two changes no bit of
    the output.
    """
    if x.dtype is not torch.float16 and (x.dtype is torch.float64 or _autocast(x) is not torch.float16):
        return None
    largest = base_weight.detach().float().abs().amax().clamp(min=1)
    return torch.exp2(torch.ceil(torch.log2(largest)))


def _to(cast: torch.dtype | None, tensor: Tensor) -> Tensor:
    """What autocast would make of it, which on a CPU does not know the operator of the convolution."""
    return tensor if cast is None or tensor.dtype == torch.float64 else tensor.to(cast)


def _combine(linear: LinearMap, cast: torch.dtype | None, h: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """The linear map under autocast."""
    return linear.forward(_to(cast, h), _to(cast, weight), None if bias is None else _to(cast, bias))


def _in(dtype: torch.dtype, tensor: Tensor) -> Tensor:
    return tensor if tensor.dtype is dtype else tensor.to(dtype)


class _Entry(NamedTuple):
    """The input on its way to φ: x with a scale and a shift, or what a ``RowNorm`` made of it; and the statistics."""

    x: Tensor
    to: Affine | None
    mean: Tensor | None
    var: Tensor | None  # of a ``RowNorm`` 1/σ
    of: int  # elements a statistic


def _enter(
    x: Tensor,
    gamma: Tensor | None,
    beta: Tensor | None,
    mean: Tensor | None,
    var: Tensor | None,
    how: _How,
    ours: Any,
    numbers: Tensor | None = None,
) -> _Entry:
    """``numbers`` are those of the scale and the shift where they are known; ``ours`` is the engine."""
    if isinstance(how.norm, RowNorm):
        u, centre, rstd = normalise.rows_normalised(x, gamma, beta, how.norm)
        return _Entry(u, None, centre, rstd, 0)
    if how.norm is None:
        return _Entry(x, None, None, None, 0)
    if numbers is not None:
        return _Entry(x, Affine(numbers), mean, var, how.of)
    if mean is None or var is None:
        found, to = ours.NORM.prepared(x, gamma, beta, how.norm, how.running)
        return _Entry(x, to, *found)
    found = Statistics(mean, var, how.of)
    return _Entry(x, ours.NORM.affine(found, gamma, beta, how.norm, x.shape[1]), *found)


def _leave(
    grad: Tensor, sums: Tensor | None, x: Tensor, gamma: Tensor | None, beta: Tensor | None, entry: _Entry, how: _How, ours: Any
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """Gradients of x, γ and β from that of u and its sums a channel."""
    if how.norm is None or entry.mean is None or entry.var is None:
        return grad, None, None
    if isinstance(how.norm, RowNorm):
        return normalise.rows_gradient(grad, x, entry.mean, entry.var, gamma, beta)
    assert sums is not None
    found = Statistics(entry.mean, entry.var, entry.of)
    grad_x, *grads = ours.NORM.returned(grad, sums, x, gamma, found, how.norm)
    of_gamma, of_beta = (None if p is None else _in(p.dtype, g) for p, g in zip((gamma, beta), grads, strict=True))
    return grad_x, of_gamma, of_beta


def _afterwards(how: _How, entry: _Entry) -> _How:
    """What the backward pass is told of statistics that were found on the way."""
    return how if entry.of == how.of else how._replace(of=entry.of, running=None)


def _of_norm(entry: _Entry) -> tuple[Tensor | None, Tensor | None]:
    """The statistics that are kept; those of a ``RowNorm`` are found again."""
    return (None, None) if entry.to is None else (entry.mean, entry.var)


def _maps(tensors: Sequence[Any], how: _How) -> list[Mapped]:
    """The linear maps with their tensors, which follow each other."""
    return [Mapped(linear, *tensors[2 * i : 2 * i + 2]) for i, linear in enumerate(how.linears)]


def _outputs(
    entry: _Entry, coef: Tensor, base_weight: Tensor, how: _How, maps: Sequence[Mapped], ours: Any
) -> tuple[tuple[Tensor, ...], Tensor, Tensor | None]:
    """y of every map, h = φ(u), divided by the room that half precision needs and in the type of autocast, and that room."""
    cast = _autocast(entry.x)
    room = _headroom(entry.x, base_weight)
    h = _to(cast, _activate(entry, coef, base_weight, how.phi, room, ours))
    return tuple([_combine(m.linear, cast, h, _times(m.weight, room), m.bias) for m in maps]), h, room


class _Shared(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, coef: Tensor, base_weight: Tensor, *rest: Any) -> tuple[Tensor, ...]:
        gamma, beta, mean, var, how, *tensors = rest
        ours = tools(how.engine, x, coef, base_weight)
        entry = _enter(x, gamma, beta, mean, var, how, ours)
        outputs, h, room = _outputs(entry, coef, base_weight, how, _maps(tensors, how), ours)
        kept, numbers = None if how.phi.recompute else h, None if entry.to is None else entry.to.numbers
        ctx.save_for_backward(x, coef, base_weight, gamma, beta, *_of_norm(entry), kept, numbers, *tensors)
        ctx.how, ctx.room = _afterwards(how, entry), room
        return outputs

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple:
        return differentiable_once(ONCE, _shared_backward, ctx.how, ctx.room, ctx.needs_input_grad, *grads, *ctx.saved_tensors)


def _shared_backward(how: _How, room: Tensor | None, needs: tuple[bool, ...], *given: Any) -> tuple:
    grads, kept = given[: len(how.linears)], given[len(how.linears) :]
    x, coef, base_weight, gamma, beta, mean, var, h, numbers, *tensors = kept
    ours = tools(how.engine, grads[0], x, coef, base_weight)
    entry = _enter(x, gamma, beta, mean, var, how, ours, numbers)
    h = _activate(entry, coef, base_weight, how.phi, room, ours) if h is None else h
    grad_h, of_maps = None, []
    for i, (grad, m) in enumerate(zip(grads, _maps(tensors, how), strict=True)):
        wanted = (True, needs[8 + 2 * i], m.bias is not None and needs[9 + 2 * i])
        activated, factors = _in(grad.dtype, h), _in(grad.dtype, m.weight)
        part, grad_weight, grad_bias = m.linear.backward(grad, activated, factors, wanted)
        grad_h = part if grad_h is None or part is None else grad_h + part
        of_maps.append(None if grad_weight is None else _times(_in(m.weight.dtype, grad_weight), room))
        of_maps.append(None if grad_bias is None else _in(m.weight.dtype, grad_bias))
    assert grad_h is not None
    inner, *of_phi, sums = ours.backward(grad_h, entry.x, coef, base_weight, how.phi, entry.to)
    grad_x, *of_norm = _leave(inner, sums, x, gamma, beta, entry, how, ours)
    return grad_x, *of_phi, *of_norm, None, None, None, *of_maps


def _activate(entry: _Entry, coef: Tensor, base_weight: Tensor, phi: Phi, room: Tensor | None, ours: Any) -> Tensor:
    """φ(u), or φ(u) / room."""
    if room is not None:
        coef, base_weight = coef / room, base_weight / room
    return ours.forward(entry.x, coef, base_weight, phi, entry.to)  # type: ignore[no-any-return]


def _times(tensor: Tensor, room: Tensor | None) -> Tensor:
    return tensor if room is None else tensor * room


class _Expanded(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, coef: Tensor, base_weight: Tensor, *rest: Any) -> tuple[Tensor]:
        gamma, beta, mean, var, how, weight, bias = rest
        entry = _enter(x, gamma, beta, mean, var, how, tools(how.engine, x))
        cast = _autocast(x)
        w, b = _to(cast, compose(coef, base_weight, weight, how.phi.edges)), None if bias is None else _to(cast, bias)
        ctx.save_for_backward(x, gamma, beta, *_of_norm(entry), coef, base_weight, weight)
        ctx.how, ctx.biased = _afterwards(how, entry), bias is not None and ctx.needs_input_grad[9]
        u = normalise.normalised(entry.x, entry.to)
        (linear,) = how.linears
        return (torch.cat([linear.forward(_expand(part, how.phi, w.dtype), w, b) for part in _parts(u, how.phi)]),)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple:
        return differentiable_once(ONCE, _expanded_backward, ctx.how, ctx.biased, grad, *ctx.saved_tensors)


def _expanded_backward(how: _How, biased: bool, grad: Tensor, x: Tensor, *given: Any) -> tuple:
    gamma, beta, mean, var, *parameters = given
    ours = tools(how.engine, grad, x)
    entry, phi, (linear,) = _enter(x, gamma, beta, mean, var, how, ours), how.phi, how.linears
    leaves = [p.detach().requires_grad_() for p in parameters]
    with torch.enable_grad():
        composed = compose(leaves[0], leaves[1], leaves[2], how.phi.edges)
    parts = _parts(normalise.normalised(entry.x, entry.to), phi)
    wide, grad_u, grad_bias = torch.zeros_like(composed), [], None
    w = composed.detach().to(grad.dtype)
    for part, g in zip(parts, grad.split([len(part) for part in parts]), strict=True):
        grad_h, grad_weight, bias = linear.backward(g, _expand(part, phi, g.dtype), w, (phi.exact, True, biased))
        assert grad_weight is not None
        if grad_h is not None:
            grad_u.append(expand_backward(grad_h.unflatten(1, (part.shape[1], -1)), part, phi))
        else:  # Grad-Free: the input hears of the base channels alone, a (M + 1)-th of the product
            grad_b, _, _ = linear.backward(g, part.to(g.dtype), w[:, :: phi.coefficients + 1], (True, False, False))
            assert grad_b is not None
            grad_u.append(base_backward(grad_b, part, phi.base))
        wide += grad_weight
        grad_bias = bias if grad_bias is None or bias is None else grad_bias + bias
    inner = torch.cat(grad_u)
    sums = None if entry.to is None else normalise.channel_sums(inner, x, entry.to.mean)
    grad_x, *of_norm = _leave(inner, sums, x, gamma, beta, entry, how, ours)
    of_coef, of_base, of_weight = torch.autograd.grad(composed, leaves, wide)
    of_bias = None if grad_bias is None else _in(parameters[2].dtype, grad_bias)
    return grad_x.to(x.dtype), of_coef, of_base, *of_norm, None, None, None, of_weight, of_bias


def _expand(x: Tensor, phi: Phi, dtype: torch.dtype) -> Tensor:
    return expand(x, phi).flatten(1, 2).to(dtype)


def _parts(x: Tensor, phi: Phi) -> tuple[Tensor, ...]:
    """Samples that are expanded together."""
    per_sample = max(1, x[:1].numel()) * (phi.coefficients + 1)
    return x.split(max(1, _CHUNK // per_sample))
