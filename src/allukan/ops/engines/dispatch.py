"""The engines by name, and the one place that chooses among them.

An engine is a module with

    obstacle(phi, device, dtype)                    why it cannot compute this, in one clause, or None
    forward(x, coef, base_weight, phi, to)          φ(x) of whole tensors: (B, C, *S), (A, M), (A,) → (B, A·C/J, *S); with ``to``,
                                                    two numbers a channel, φ(scale·x + shift)
    backward(grad, x, coef, base_weight, phi, to)   the gradients of φ's argument, coef and base_weight, from the inputs alone;
                                                    with ``to`` also the sums a channel that ``NORM`` wants
    NORM                                            ``ops.normalise`` or a faster module of its functions: where the two numbers
                                                    come from and the sums go
    UNIT                                            a module that takes norm and φ of the ordinary case in one call each way
                                                    (``native_unit``); an engine may have none
    expand(x, phi), expand_backward(grad, x, phi)   the M + 1 terms of φ, where ``obstacle`` lets ``phi.expanded`` pass
    CHANNELS_LAST                                   whether it keeps channels-last memory for several activations, too

``COMPOSED`` ones have ``forward`` and ``expand`` only, made of operators that torch differentiates. A new engine is one file
beside the others and one ``_load`` at the end.
"""

from __future__ import annotations

import logging
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType

import torch

from allukan.ops.autograd import cached
from allukan.ops.engines import aten, eager, reference
from allukan.ops.phi import Phi
from allukan.ops.tracing import recorded, refuse_classic_onnx

COMPOSED: dict[str, ModuleType] = {"reference": reference, "aten": aten}
ENGINES: dict[str, ModuleType] = {"eager": eager}
UNAVAILABLE: dict[str, str] = {}  # engines that are not here, and why
_FASTEST = {"cpu": "native", "cuda": "triton"}


def choose(phi: Phi, device: str, dtype: torch.dtype) -> str:
    """The engine for tensors of that device and type; one asked for by name is taken or refused, never replaced.

    Raises ``ValueError`` with the reason when ``phi.impl`` cannot run or does not exist.

    >>> choose(Phi(5, 3, (-3.0, 3.0)), "cpu", torch.float64)
    'eager'
    """
    refuse_classic_onnx()  # whatever the engine
    if phi.impl == "auto" and recorded():  # what is recorded runs where this package is not
        return "aten"
    return _chosen(phi, device, dtype)


def unit(phi: Phi, device: str, dtype: torch.dtype) -> ModuleType | None:
    """The ``UNIT`` of that engine, if it has one; for callers that nobody looks on at."""
    return getattr(ENGINES.get(_chosen(phi, device, dtype)), "UNIT", None)


@cached
def _chosen(phi: Phi, device: str, dtype: torch.dtype) -> str:
    if phi.impl != "auto":
        if reason := obstacle(phi.impl, phi, device, dtype):
            raise ValueError(f"impl={phi.impl!r} cannot run: {reason}")
        return phi.impl
    engine = "eager" if phi.expanded and device != "cpu" else _FASTEST.get(device, "eager")
    reason = obstacle(engine, phi, device, dtype)
    if reason is None:
        return engine
    if (device == "cuda" or engine in UNAVAILABLE) and not torch.compiler.is_compiling():
        _log_once(f"shared_spline runs as impl='eager', impl={engine!r} is faster but cannot run: {reason}")
    return "eager"


def available(phi: Phi, device: str, dtype: torch.dtype) -> list[str]:
    """The engines that run at full speed; Triton's interpreter is none.

    >>> available(Phi(5, 3, (-3.0, 3.0)), "cpu", torch.float32)
    ['eager', 'native']
    """
    able = [engine for engine in ENGINES if obstacle(engine, phi, device, dtype) is None]
    return [engine for engine in able if device == "cuda" or engine != "triton"]


def obstacle(engine: str, phi: Phi, device: str, dtype: torch.dtype) -> str | None:
    """Why that engine cannot compute this, or None."""
    if engine not in IMPLEMENTATIONS:
        raise ValueError(f"unknown impl {engine!r}; choose one of {', '.join(IMPLEMENTATIONS)}")
    if engine in COMPOSED:
        return None
    return UNAVAILABLE[engine] if engine in UNAVAILABLE else ENGINES[engine].obstacle(phi, device, dtype)


@cache
def _log_once(message: str) -> None:
    logging.getLogger("allukan").warning(message)


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


_load("native", "allukan.ops.engines.native", "numba")
_load("triton", "allukan.ops.engines.triton_engine", "triton")
IMPLEMENTATIONS = ("auto", *{**ENGINES, **UNAVAILABLE}, *COMPOSED)
