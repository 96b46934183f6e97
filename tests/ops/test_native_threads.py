"""The compiled loops on several threads: values and every gradient, OpenMP's team, Python's, and fewer than asked for."""

import copy
import os
import subprocess
import sys

import pytest
import torch

from allukan.nn import KAConv2d
from allukan.ops import shared_spline
from allukan.ops.expansion import basis_expansion

native_team = pytest.importorskip("allukan.ops.engines.native_team", reason="numba does not work here")
GRID = (-3.0, 3.0)


@pytest.fixture(params=[1, 2, 3])
def threads(request, monkeypatch):
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    monkeypatch.setattr(native_team, "_LEAST", 64)  # elements that are worth a thread: small tensors shall have several
    yield request.param
    torch.set_num_threads(before)


@pytest.fixture(params=["OpenMP", "Python"])
def team(request, monkeypatch):
    if request.param == "Python":
        monkeypatch.setattr(native_team, "_team", lambda: native_team._python_team)


def gradients(impl, dtype, activations, blocks=1):
    torch.manual_seed(1)
    x = (2.5 * torch.randn(3, 4, 7, 11)).to(dtype).requires_grad_()
    coef, weight = (torch.randn(activations, n).to(dtype).requires_grad_() for n in (8, 1))
    y = shared_spline(x, coef, weight[:, 0], GRID, blocks=blocks, impl=impl)
    y.backward(torch.randn(y.shape).to(dtype))
    return y.detach(), x.grad, coef.grad, weight.grad


@pytest.mark.parametrize(("activations", "blocks"), [(1, 1), (3, 1), (4, 4)])
def test_values_and_gradients_are_the_references(threads, team, activations, blocks):
    found = gradients("native", torch.float32, activations, blocks)
    wanted = gradients("reference", torch.float64, activations, blocks)
    for mine, theirs in zip(found, wanted, strict=True):
        assert (mine - theirs).norm() < 3e-6 * theirs.norm()


@pytest.mark.parametrize("norm", ["batch", "instance", "group"])
def test_a_norm_in_front_is_torchs(threads, team, norm):
    x, results = 3 * torch.randn(3, 4, 7, 11) + 1, []
    layer = KAConv2d(4, 6, 3, padding=1, norm=norm)
    torch.nn.init.normal_(layer.coef)
    for dtype in (torch.float32, torch.float64):
        unit, given = copy.deepcopy(layer).to(dtype), x.to(dtype, copy=True).requires_grad_()
        y = unit(given)
        y.backward(torch.linspace(-1, 1, y.numel(), dtype=dtype).view(y.shape))
        results.append([y.detach(), given.grad, *(p.grad for p in unit.parameters()), *unit.buffers()])
    for mine, theirs in zip(*results, strict=True):
        assert (mine - theirs).double().norm() <= 1e-5 * theirs.double().norm()


def test_the_expanded_basis_is_the_references(threads, team):
    x = torch.randn(2, 3, 50)
    results = []
    for dtype in (torch.float32, torch.float64):  # float64 is not computed by these loops
        given = x.to(dtype, copy=True).requires_grad_()
        y = basis_expansion(given, 5, 3, GRID)
        y.backward(torch.ones_like(y))
        results.append((y.detach(), given.grad))
    for mine, theirs in zip(*results, strict=True):
        assert (mine - theirs).norm() < 3e-6 * theirs.norm()


LIMITED = """
import numpy as np, torch
from allukan.nn import KAConv2d
from allukan.ops import shared_spline
torch.set_num_threads(4)
x, coef, wanted = torch.randn(400, 400), torch.randn(1, 8), []
for _ in range(2):
    weight = torch.ones(1, requires_grad=True)
    shared_spline(x, coef, weight, (-3.0, 3.0), impl="native").sum().backward()
    np.empty = lambda shape, *_, **__: np.full(shape, 1e9)  # what may lie in memory that nobody wrote to
wanted = torch.nn.functional.silu(x.double()).sum()
assert abs(weight.grad.double() - wanted) < 1e-4 * wanted.abs(), (weight.grad, wanted)
"""


@pytest.mark.slow
@pytest.mark.kernels
@pytest.mark.parametrize("limit", ["1", "2"])
def test_fewer_threads_than_asked_for_add_up_to_the_same(limit):
    """OpenMP gives as many as OMP_THREAD_LIMIT lets it; sums of the others must be nothing, not what lay in memory."""
    settings = {**os.environ, "OMP_THREAD_LIMIT": limit, "OMP_NUM_THREADS": "4"}
    done = subprocess.run([sys.executable, "-c", LIMITED], env=settings, capture_output=True, text=True, encoding="utf-8")
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_no_second_openmp_is_loaded():
    """Only the library that torch runs on is used; where it has none of this kind, Python's threads."""
    if not sys.platform.startswith("linux"):
        pytest.skip("reads /proc")
    code = """
from allukan.ops.engines.native_team import _team
_team()
with open("/proc/self/maps", encoding="utf-8") as maps:
    print(len({line.split()[-1] for line in maps if "libgomp" in line}))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, encoding="utf-8")
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) <= 1
