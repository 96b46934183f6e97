"""The fast implementations of the shared spline by name; each has ``forward`` and ``backward`` on ``(B, J, N)``."""

from __future__ import annotations

from importlib.util import find_spec
from types import ModuleType

from allukan.ops.shared_spline import eager

MAX_NATIVE_ORDER = 3
CHANNELS_LAST = {"triton"}  # engines that read the short runs of channels-last memory as fast as long ones
ENGINES: dict[str, ModuleType] = {"eager": eager}
if find_spec("numba"):
    from allukan.ops.shared_spline import native

    ENGINES["native"] = native
if find_spec("triton"):
    from allukan.ops.shared_spline import triton_engine

    ENGINES["triton"] = triton_engine
