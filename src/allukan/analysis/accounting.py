"""Exact memory and size: the same figures on every machine."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn


def saved_bytes(function: Callable[[], Any], module: nn.Module | None = None) -> int:
    """Bytes that ``function()`` keeps for the backward pass: unique storages, those of the parameters of ``module`` excluded.

    >>> x = torch.randn(4, 256, requires_grad=True)
    >>> saved_bytes(lambda: torch.nn.functional.silu(x))
    4096
    """
    storages: dict[int, int] = {}
    alive: list[Tensor] = []  # keeps addresses from being used twice
    own = {p.untyped_storage().data_ptr() for p in module.parameters()} if module is not None else set[int]()

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            storages[storage.data_ptr()] = storage.nbytes()
            alive.append(tensor.detach())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        result = function()
    del result
    return sum(storages.values())


def parameter_count(module: nn.Module) -> int:
    """Number of trainable values.

    >>> parameter_count(nn.Linear(3, 2))
    8
    """
    return sum(parameter.numel() for parameter in module.parameters() if parameter.requires_grad)
