"""The training pass of a network as CUDA graphs.

A host takes longer to launch a thousand small kernels than a GPU to run them.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

_log = logging.getLogger("allukan")


class Recorded:
    """``call(images)`` of a network that is being trained, from its second batch on by graphs of both passes.

    The first batch goes the usual way, so that what is compiled or chosen at the first use has been. Batches of other sizes do
    so, too, as does everything in evaluation. A network that cannot be recorded, because it reads a value on the host, goes on
    as it is; the log says why.
    """

    def __init__(self, network: nn.Module, call: Callable[[Tensor], Any]) -> None:
        self.network, self.call = network, call
        self._batches = 0
        self._shape: torch.Size | None = None
        self._graphs: Callable[[Tensor], Any] | None = None

    def __call__(self, images: Tensor) -> Any:
        """What the call returns; the tensors are overwritten by the next one."""
        self._batches += 1
        if self._batches == 2 and images.is_cuda and torch.is_grad_enabled():
            self._record(images)
        return self.call(images) if self._graphs is None or images.shape != self._shape else self._graphs(images)

    def _record(self, images: Tensor) -> None:
        kept = [(buffer, buffer.clone()) for buffer in self.network.buffers()]
        seed = torch.cuda.get_rng_state()
        try:
            self._graphs = torch.cuda.make_graphed_callables(
                _Called(self.network, self.call), (images.clone(),), allow_unused_input=True
            )
            self._shape = images.shape
        except RuntimeError as error:
            first = str(error).strip().partition("\n")[0]
            _log.warning(f"the training steps are not recorded as CUDA graphs ({first}): training goes on without.")
        finally:
            torch.cuda.set_rng_state(seed)
            with torch.no_grad():
                for buffer, value in kept:  # recording runs the network a few times
                    buffer.copy_(value)


class _Called(nn.Module):
    """The call as a module that has the network's parameters: only of such are gradients recorded."""

    def __init__(self, network: nn.Module, call: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.network, self.call = network, call

    def forward(self, images: Tensor) -> Any:
        """See ``Recorded``."""
        return self.call(images)
