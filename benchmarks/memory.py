"""What a step takes of a device's memory, and what is left of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch


def peak_bytes(step: Callable[[], Any], device: torch.device) -> int | None:
    """Bytes of GPU memory that ``step()`` needs on top of what is allocated before; None on a CPU, which does not count them."""
    if device.type != "cuda":
        return None
    torch.cuda.synchronize(device)
    before = torch.cuda.memory_allocated(device)
    torch.cuda.reset_peak_memory_stats(device)
    step()
    torch.cuda.synchronize(device)
    return torch.cuda.max_memory_allocated(device) - before


def available_bytes(device: torch.device) -> int | None:
    """Memory of ``device`` that is free now; None where the system does not tell."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    try:
        with open("/proc/meminfo", encoding="ascii") as file:
            return next((1024 * int(line.split()[1]) for line in file if line.startswith("MemAvailable")), None)
    except OSError:
        return None
