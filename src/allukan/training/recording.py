"""The passes of a network in training as CUDA graphs: a host takes longer to launch a thousand kernels than a GPU to run them.

``torch.cuda.make_graphed_callables`` keeps the logits that it recorded, and with them an autograd graph whose gradients are tied
to the stream of the recording; here nothing of it is left, and batches of another shape can go the usual way.
"""

from __future__ import annotations

import copy
import logging
import random
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from allukan.errors import UserError
from allukan.training.config import TrainConfig

_log = logging.getLogger("allukan")
_T = TypeVar("_T")
Call = Callable[[Tensor], Sequence[Tensor]]  # images -> logits, of several levels with deep supervision
Replay = Callable[[], Any]


class Recorded:
    """``call(images)`` of a network in training, both of whose passes are CUDA graphs that the first batch records.

    Nothing may have been differentiated before whose graph of autograd is still alive: its gradients are tied to another stream.
    Batches of another shape go the usual way. Logits and gradients are where the next batch has its own. What the host does in
    a pass would not be repeated: a network that reads values or draws random numbers there, or that replaces its buffers, goes on
    as it is, and the log says so.
    """

    def __init__(self, network: nn.Module, call: Call) -> None:
        self.network, self.call = network, call
        self._passes: _Passes | None = None
        self._tried = False

    def __call__(self, images: Tensor) -> Sequence[Tensor]:
        """Logits of a batch, as ``call`` has them."""
        if not self._tried:
            self._tried, self._passes = True, self._recorded(images)
        if self._passes is None or images.shape != self._passes.images.shape:
            return self.call(images)
        found: Sequence[Tensor] = _Replay.apply(self._passes, images, *self._passes.parameters)
        return found

    def release(self) -> None:
        """Gives the memory of the graphs back, which garbage collection might only after the next training has begun."""
        self._passes, self._tried = None, False

    def __deepcopy__(self, memo: dict[int, Any]) -> Recorded:
        """Of a copied network, whose passes are not recorded yet."""
        return Recorded(copy.deepcopy(self.network, memo), copy.deepcopy(self.call, memo))

    def _recorded(self, images: Tensor) -> _Passes | None:
        parameters = [parameter for parameter in self.network.parameters() if parameter.requires_grad]
        with _unchanged(self.network):
            stream = torch.cuda.Stream()
            if reason := _why_not(self.network, self.call, images, parameters, stream):
                _log.warning(f"steps are not recorded as CUDA graphs: the network {reason}.")
                return None
            try:
                return _Passes(self.call, images, parameters, stream)
            except torch.OutOfMemoryError:
                raise
            except RuntimeError as error:
                raise UserError(f"steps cannot be recorded as CUDA graphs ({_first(error)}): give --no-cuda-graphs.") from error


class _Passes:
    """Both graphs, and the memory that they read from and write to."""

    def __init__(self, call: Call, images: Tensor, parameters: list[nn.Parameter], stream: Any) -> None:
        self.parameters, self.images, pool = parameters, images.clone(), torch.cuda.graph_pool_handle()
        stream.wait_stream(torch.cuda.current_stream())
        self.forward, logits = record(lambda: call(self.images), pool, stream)
        self.slopes = [torch.zeros_like(level) for level in logits]
        stream.wait_stream(torch.cuda.current_stream())
        self.backward, self.gradients = record(lambda: _gradients(logits, parameters, self.slopes), pool, stream)
        self.logits = [level.detach() for level in logits]  # without their autograd graph, which belongs to the stream
        torch.cuda.current_stream().wait_stream(stream)


class _Replay(torch.autograd.Function):
    """A pass of the network, whose parameters are arguments so that they get gradients."""

    @staticmethod
    def forward(ctx: Any, passes: _Passes, images: Tensor, *parameters: Tensor) -> tuple[Tensor, ...]:
        ctx.passes = passes
        passes.images.copy_(images)
        passes.forward()
        return tuple(level.detach() for level in passes.logits)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *slopes: Tensor) -> tuple[Tensor | None, ...]:
        passes: _Passes = ctx.passes
        for held, slope in zip(passes.slopes, slopes, strict=True):
            held.copy_(slope)
        passes.backward()
        return None, None, *(None if gradient is None else gradient.detach() for gradient in passes.gradients)


def recordable(config: TrainConfig, device: torch.device, processes: int) -> bool:
    """Whether steps are recorded: on a GPU of its own, unless they are compiled."""
    return config.cuda_graphs and not config.compile and processes == 1 and device.type == "cuda"


def record(act: Callable[[], _T], pool: Any, stream: Any) -> tuple[Replay, _T]:
    """What repeats ``act``, and where its results lie."""
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, pool=pool, stream=stream):
        results = act()
    return graph.replay, results


def _gradients(logits: Sequence[Tensor], parameters: list[nn.Parameter], slopes: list[Tensor]) -> tuple[Tensor | None, ...]:
    return torch.autograd.grad(logits, parameters, slopes, allow_unused=True)


def _why_not(network: nn.Module, call: Call, images: Tensor, parameters: list[nn.Parameter], stream: Any) -> str:
    """What of a pass a graph would not repeat: of the last of three, as libraries may choose their algorithms in those before."""
    before, buffers = _host_randomness(), list(network.buffers())
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for waiting in ("default", "default", "error"):
            _when_waiting(waiting)
            try:
                logits = call(images)
                _gradients(logits, parameters, [torch.zeros_like(level) for level in logits])
            except RuntimeError as error:
                if waiting == "error" and "synchroniz" in str(error):
                    return "reads values of the GPU on the host"
                raise
            finally:
                _when_waiting("default")
    torch.cuda.current_stream().wait_stream(stream)
    if _host_randomness() != before:
        return "draws random numbers on the host"
    kept = all(now is then for now, then in zip(network.buffers(), buffers, strict=True))
    return "" if kept else "replaces its buffers"


def _when_waiting(mode: str) -> None:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Synchronization debug mode is a prototype")
        torch.cuda.set_sync_debug_mode(mode)


def _host_randomness() -> tuple[Any, ...]:
    """The states of the generators that a network may draw from, to be compared."""
    return torch.get_rng_state().tolist(), random.getstate(), str(np.random.get_state())


@contextmanager
def _unchanged(network: nn.Module) -> Iterator[None]:
    """Statistics and random numbers as they were: recording runs the network a few times."""
    kept, state = [(buffer, buffer.clone()) for buffer in network.buffers()], torch.cuda.get_rng_state()
    try:
        yield
    finally:
        torch.cuda.set_rng_state(state)
        with torch.no_grad():
            for buffer, value in kept:
                buffer.copy_(value)


def _first(error: RuntimeError) -> str:
    return str(error).strip().partition("\n")[0]
