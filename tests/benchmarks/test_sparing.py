"""The twins of those who are short of memory compute what the twin computes, and keep less."""

import pytest
import torch

from allukan.costs import saved_bytes
from benchmarks.networks import Task
from benchmarks.sparing import TWINS, sparing


@pytest.mark.parametrize("name", TWINS)
def test_they_are_the_same_function_and_keep_less(name):
    task = Task(size="tiny", batch=2, px=32)
    twin, other = task.network("conv"), sparing(task.network("conv"), whole=name == "conv-checkpoint")
    x = torch.randn(task.shape)
    results = []
    for network in (twin, other):
        y = network(x)
        results.append([y, *torch.autograd.grad(y.square().sum(), list(network.parameters()))])
    torch.testing.assert_close(*results)
    kept = [saved_bytes(lambda n=n: n(x), n) for n in (twin, other)]
    assert kept[1] < (0.5 if name == "conv-checkpoint" else 0.8) * kept[0]
