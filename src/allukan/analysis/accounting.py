"""Exact memory and size: the same figures on every machine."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn


def saved_bytes(function: Callable[[], Any], module: nn.Module | Iterable[Tensor] | None = None) -> int:
    """Bytes that ``function()`` keeps for the backward pass: unique storages, parameters excluded.

    A storage counts once and whole, however many views of it are saved. ``module``, or the tensors themselves, names the
    parameters that do not count; buffers do. Works on the "meta" device too, where networks too large to run can be measured.

    >>> x = torch.randn(4, 256, requires_grad=True)
    >>> saved_bytes(lambda: torch.nn.functional.silu(x))
    4096
    """
    parameters = list(module.parameters() if isinstance(module, nn.Module) else module or ())
    own = {_address(parameter) for parameter in parameters}
    sizes: dict[int, int] = {}
    alive: list[Tensor] = []  # so that no address is used twice

    def pack(tensor: Tensor) -> Tensor:
        address = _address(tensor)
        if address not in own:
            sizes[address] = tensor.untyped_storage().nbytes()
            alive.append(tensor.detach())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        function()
    return sum(sizes.values())


def _address(tensor: Tensor) -> int:
    storage = tensor.untyped_storage()
    return storage.data_ptr() or -storage._cdata  # "meta" tensors have no memory, but a storage each


def parameter_count(module: nn.Module) -> int:
    """Number of trainable values; a parameter that several layers share counts once.

    >>> parameter_count(nn.Linear(3, 2))
    8
    """
    return sum(parameter.numel() for parameter in module.parameters() if parameter.requires_grad)
