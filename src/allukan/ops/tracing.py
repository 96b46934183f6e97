"""Who looks on while an operator runs, and so what must be called: the one place that knows the tracers of torch.

| who | what it is given |
|---|---|
| ``torch.export``, the ONNX exporter, ``torch.jit.trace``, ``make_fx``, AOTAutograd | operators of torch only (``recorded``) |
| ``torch.compile`` | operators of ``torch.library`` (``sees_operators``) |
| ``torch.func`` | functions that it can transform (``transforms``) |
| fake and meta tensors, other modes and subclasses, ``FlopCounterMode`` | our operators, in the usual function (``watched``) |
| nobody | the loops themselves, which read memory that nobody else has heard of |
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.utils._python_dispatch import _disable_current_modes

from allukan.errors import UserError

_RECORDERS = (torch._C._TorchDispatchModeKey.PROXY, torch._C._TorchDispatchModeKey.FUNCTIONAL)
_PRE_DISPATCH = torch._C.DispatchKey.PreDispatch
_NO_DISPATCH: Any = Tensor.__torch_dispatch__  # of tensors that leave it to torch which kernel runs


def sees_operators() -> bool:
    """Whether the caller follows operators, not autograd functions: ``torch.compile``, ``torch.export``, ``torch.jit.trace``."""
    return torch.compiler.is_compiling() or torch._C._is_tracing()


def jit_traced() -> bool:
    """Whether it is ``torch.jit.trace``, to whom a size is a tensor."""
    return not torch.compiler.is_compiling() and torch._C._is_tracing()


def recorded() -> bool:
    """Whether what is called here is written down, to run somewhere else, where this package may not be."""
    if torch.compiler.is_compiling():
        return torch.compiler.is_exporting()
    if torch._C._is_tracing():
        refuse_classic_onnx()
        return True
    if torch._C._dispatch_tls_is_dispatch_key_included(_PRE_DISPATCH):
        return True
    return torch._C._len_torch_dispatch_stack() > 0 and any(torch._C._get_dispatch_mode(key) for key in _RECORDERS)


def refuse_classic_onnx() -> None:
    """Raise ``UserError`` under ``torch.onnx.export(dynamo=False)``, which writes the sizes of the example into the file."""
    if jit_traced() and torch.onnx.is_in_onnx_export():
        raise UserError(
            "torch.onnx.export with dynamo=False cannot export this model, as it takes the sizes of the example for constants: "
            "use torch.onnx.export(model, args, file, dynamo=True)"
        )


def sizes(tensor: Tensor) -> torch.Size:
    """``tensor.shape`` as numbers: ``torch.jit.trace`` makes tensors of them, for sizes that may be others in the next call.

    For the sizes that may not: those of parameters, and what a check looks at.

    >>> sizes(torch.zeros(2, 3))
    torch.Size([2, 3])
    """
    if not jit_traced():
        return tensor.shape
    with untraced():
        return tensor.shape


@contextmanager
def untraced() -> Iterator[None]:
    """``torch.jit.trace`` looks away: what is made here is a constant to it."""
    state = torch._C._get_tracing_state()
    torch._C._set_tracing_state(None)  # type: ignore[attr-defined]
    try:
        yield
    finally:
        torch._C._set_tracing_state(state)  # type: ignore[attr-defined]


@contextmanager
def unwatched() -> Iterator[None]:
    """Modes such as ``FakeTensorMode`` look away: for numbers that are computed once and kept."""
    with _disable_current_modes() if torch._C._len_torch_dispatch_stack() > 0 else nullcontext():
        yield


def transforms() -> bool:
    """Whether the caller is a transform of ``torch.func``, which wants a ``transformable`` function."""
    return torch._C._are_functorch_transforms_active()


def has_tangents() -> bool:
    """Whether derivatives are carried forward (``torch.autograd.forward_ad``), which a function of ours refuses aloud."""
    return forward_ad._current_level >= 0


def unobserved(x: Tensor) -> bool:
    """Whether nobody looks on at all and x has memory of its own: all of the above in one question.

    >>> unobserved(torch.zeros(1)), unobserved(torch.zeros(1, device="meta"))
    (True, False)
    """
    return not (
        torch.compiler.is_compiling()
        or torch._C._is_tracing()
        or torch._C._are_functorch_transforms_active()
        or torch._C._len_torch_dispatch_stack() > 0
        or torch._C._dispatch_tls_is_dispatch_key_included(_PRE_DISPATCH)
        or x.is_meta
        or type(x).__torch_dispatch__ is not _NO_DISPATCH
    )


def watched(*tensors: Tensor) -> bool:
    """Whether a kernel may not be called directly: somebody counts the operators, or a tensor has no memory of its own.

    >>> watched(torch.zeros(1)), watched(torch.zeros(1, device="meta"))
    (False, True)
    """
    if torch._C._len_torch_dispatch_stack() > 0 or torch._C._dispatch_tls_is_dispatch_key_included(_PRE_DISPATCH):
        return True
    return any(t.is_meta or type(t).__torch_dispatch__ is not _NO_DISPATCH for t in tensors)
