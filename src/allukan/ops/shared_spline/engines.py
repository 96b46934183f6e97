"""The fast implementations of the shared spline by name; each has ``forward`` and ``backward`` on ``(B, J, N)``."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from types import ModuleType

from allukan.ops.shared_spline import eager

MAX_NATIVE_ORDER = 3
CHANNELS_LAST = {"triton"}  # engines that read the short runs of channels-last memory as fast as long ones
ENGINES: dict[str, ModuleType] = {"eager": eager}
UNAVAILABLE: dict[str, str] = {}  # engines that are not here, and why


def _load(name: str, module: str, package: str) -> None:
    """A package that is installed and broken (a numba that refuses this numpy, say) costs speed, never the import of allukan."""
    if find_spec(package) is None:
        UNAVAILABLE[name] = f"it needs the package {package}: pip install {package}"
        return
    try:
        ENGINES[name] = import_module(module)
    except Exception as error:
        reason = " ".join(str(error).split())
        UNAVAILABLE[name] = f"the package {package} does not work here ({type(error).__name__}: {reason})"


_load("native", "allukan.ops.shared_spline.native", "numba")
_load("triton", "allukan.ops.shared_spline.triton_engine", "triton")
