"""Exact memory and size: the same figures on every machine."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
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
    parameters = module.parameters() if isinstance(module, nn.Module) else module or ()
    with saved_bytes_by(lambda: "", parameters) as found:
        function()
    return sum(found.values())


@contextmanager
def saved_bytes_by(
    label: Callable[[], str], parameters: Iterable[Tensor] = (), size: Callable[[Tensor], int] | None = None
) -> Iterator[dict[str, int]]:
    """As ``saved_bytes``, for the code inside ``with``, split by what ``label()`` says when a storage is first saved.

    ``size`` gives the bytes of a tensor's storage where they are not what shall be counted.

    >>> x = torch.randn(4, 256, requires_grad=True)
    >>> with saved_bytes_by(lambda: "here") as found:
    ...     y = x.exp().sin()
    >>> found
    {'here': 4096}
    """
    known = {_identity(parameter) for parameter in parameters}
    sizes: dict[str, int] = {}
    alive: list[Tensor] = []  # so that no storage takes the place of an earlier one

    def pack(tensor: Tensor) -> Tensor:
        if _identity(tensor) not in known:
            known.add(_identity(tensor))
            sizes[label()] = sizes.get(label(), 0) + (size or _bytes)(tensor)
            alive.append(tensor.detach())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        yield sizes


def _identity(tensor: Tensor) -> int:
    return tensor.untyped_storage()._cdata  # not its address in memory, which "meta" tensors lack


def _bytes(tensor: Tensor) -> int:
    return tensor.untyped_storage().nbytes()


def parameter_count(module: nn.Module) -> int:
    """Number of trainable values; a parameter that several layers share counts once.

    >>> parameter_count(nn.Linear(3, 2))
    8
    """
    return sum(parameter.numel() for parameter in module.parameters() if parameter.requires_grad)
