"""Subclasses of ``Tensor`` that see to their own functions, such as MONAI's ``MetaTensor``, at the door of the operators."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Concatenate, ParamSpec, TypeVar

import torch
from torch import Tensor, nn
from torch.overrides import handle_torch_function

P = ParamSpec("P")
R = TypeVar("R")
_ORDINARY = (Tensor.__torch_function__, nn.Parameter.__torch_function__, torch._C._disabled_torch_function_impl)


def through_subclasses(function: Callable[Concatenate[Tensor, P], R]) -> Callable[Concatenate[Tensor, P], R]:
    """The function computes on plain tensors; a subclass that wraps results wraps this one, metadata and all."""

    def of_plain_tensor(x: Tensor, *args: P.args, **kwargs: P.kwargs) -> R:
        return function(x.as_subclass(Tensor), *args, **kwargs)

    @wraps(function)
    def wrapped(x: Tensor, *args: P.args, **kwargs: P.kwargs) -> R:
        if torch.compiler.is_compiling() or type(x).__torch_function__ in _ORDINARY:
            return function(x, *args, **kwargs)
        return handle_torch_function(of_plain_tensor, (x,), x, *args, **kwargs)  # type: ignore[no-any-return]

    return wrapped  # type: ignore[return-value]
