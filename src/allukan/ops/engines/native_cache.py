"""Compiled loops on disk: kept where numba finds a folder, compiled anew where there is none, never a reason to fail.

numba looks at the file of one function to tell whether its machine code is old; here a change of any of the files does, and other
code or another processor has files of its own, so that two versions, two machines or two processes at once cannot mix.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import llvmlite.binding
import numba
from numba.core.caching import CompileResultCacheImpl, FunctionCache, NullCache
from numba.core.ccallback import CFunc
from numba.core.sigutils import normalize_signature

_SOURCES = ("native_vectors.py", "native_elements.py", "native_channels.py", "native_kernels.py", "native_conductor.py")
_LOG = logging.getLogger("allukan")
_SAID: list[str] = []  # why machine code is not kept, once a process


def compiled(function: Callable[..., Any], **options: Any) -> Any:
    """``numba.njit`` with this cache."""
    dispatcher = numba.njit(**options)(function)
    dispatcher._cache = _cache_of(function)
    return dispatcher


def callback(function: Callable[..., Any], signature: Any) -> Any:
    """``numba.cfunc`` with this cache: its ``address`` can be called from C."""
    entry: Any = CFunc(function, normalize_signature(signature), {}, {"nopython": True})
    entry._cache = _cache_of(function)
    entry.compile()
    return entry


def address_of(function: Any, signature: Any) -> int:
    """Where C finds a function of ``compiled``, which is compiled for that signature."""
    function.compile(signature)
    result = function.overloads[signature.args]
    return result.library.get_pointer_to_function(result.fndesc.llvm_cfunc_wrapper_name)


@cache
def code_version() -> str:
    """Changes with any source of the loops and with the processor."""
    folder, host = Path(__file__).parent, f"{llvmlite.binding.get_host_cpu_name()} {_features()}"
    parts = [*((folder / name).read_bytes() for name in _SOURCES), host.encode()]
    return hashlib.sha256(b"\0".join(parts)).hexdigest()[:16]


def _features() -> str:
    try:
        return str(llvmlite.binding.get_host_cpu_features().flatten())
    except RuntimeError:  # a processor that LLVM does not know
        return ""


class _Files(CompileResultCacheImpl):
    def get_filename_base(self, fullname: str, abiflags: str) -> str:
        return f"{super().get_filename_base(fullname, abiflags)}-{code_version()}"


class _Cache(FunctionCache):
    """Files that cannot be read are written again; those that cannot be written are done without."""

    _impl_class = _Files

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        try:
            found = super().load_overload(sig, target_context)
            if found is None:
                _announce()
            return found
        except Exception as error:
            _LOG.debug("compiling %s again: %s", self._name, error)
        try:
            self.flush()
        except Exception as error:
            _LOG.debug("the cache of %s stays as it is: %s", self._name, error)
        return None

    def save_overload(self, sig: Any, data: Any) -> None:
        try:
            super().save_overload(sig, data)
        except Exception as error:
            _say_once(str(error))


class _Nowhere(NullCache):
    def save_overload(self, sig: Any, cres: Any) -> None:
        _say_once("no folder can be written to")


def _cache_of(function: Callable[..., Any]) -> Any:
    try:
        return _Cache(function)
    except RuntimeError:  # "no locator available": neither __pycache__ nor NUMBA_CACHE_DIR nor a home
        return _Nowhere()


@cache
def _announce() -> None:
    _LOG.info("compiling the loops for this CPU, this time only: about 3 seconds, as many again for the first backward pass")


def _say_once(reason: str) -> None:
    if not _SAID:
        _SAID.append(reason)
        _LOG.warning(
            "the loops for CPUs are compiled anew by every process (%s): set NUMBA_CACHE_DIR to a folder that can be written",
            reason,
        )
