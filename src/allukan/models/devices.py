"""The device that a name stands for."""

from __future__ import annotations

import torch

from allukan.errors import UserError


def pick_device(name: str) -> torch.device:
    """The device of that name; "auto" is the GPU if there is one. Raises ``UserError`` when it is not there.

    >>> pick_device("cpu")
    device(type='cpu')
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        return torch.empty(1, device=name).device
    except (RuntimeError, AssertionError) as error:
        first = str(error).splitlines()[0]
        raise UserError(f"device {name!r} is not usable on this machine ({first}): try --device cpu.") from None
