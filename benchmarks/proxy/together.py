"""Many small trainings on one GPU at once: a step of each is a CUDA graph, and each has a stream of its own.

A step of such a network is a thousand kernels that leave most of a GPU idle; a recording needs no time of the CPU between them,
and recordings of other trainings fill the gaps.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from benchmarks.proxy.slices import Slices
from benchmarks.proxy.trial import Row, Trial

_WARM = 3  # steps without a recording, in which libraries choose their algorithms


class Recorded:
    """A trial, and the recording of its step. What a trick changes is recorded again."""

    def __init__(self, trial: Trial) -> None:
        self.trial, self.stream = trial, torch.cuda.Stream()
        self.graph: torch.cuda.CUDAGraph | None = None
        self.warm = 0
        self.stream.wait_stream(torch.cuda.current_stream())

    def advance(self) -> bool:
        """One step, and whether there was one to do."""
        trial = self.trial
        if trial.training.step == trial.steps:
            return False
        with torch.cuda.stream(self.stream):
            if trial.act():
                self.stream.synchronize()  # what it replays goes
                self.graph, self.warm = None, 0
            if self.warm < _WARM:
                trial.compute()
                self.warm += 1
            else:
                self._recording().replay()
        trial.training.step += 1
        return True

    def _recording(self) -> torch.cuda.CUDAGraph:
        if self.graph is None:
            self.graph = torch.cuda.CUDAGraph()
            self.graph.register_generator_state(self.trial.generator)
            with torch.cuda.graph(self.graph, stream=self.stream):
                self.trial.compute()
        return self.graph


def run_together(wanted: Sequence[tuple[Row, dict[str, Slices], int]]) -> list[dict[str, Any]]:
    """What ``trial.run`` gives of rows with data and seeds, on a GPU; times are those of all together."""
    recorded = [Recorded(Trial(row, data, seed, "cuda")) for row, data, seed in wanted]
    while sum(one.advance() for one in recorded):
        pass
    torch.cuda.synchronize()
    return [{**one.trial.result(), "together": len(wanted)} for one in recorded]
