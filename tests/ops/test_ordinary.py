"""The ordinary case in one call each way against the same layer step by step, bit by bit where nothing is summed."""

import pytest
import torch
from torch import nn

from allukan.costs import saved_bytes
from allukan.nn import KAConv1d, KAConv2d, KAFork2d, KALinear, Spline
from allukan.ops import layer as steps
from allukan.ops import ordinary

native_unit = pytest.importorskip("allukan.ops.engines.native_unit", reason="numba does not work here")
if native_unit.conducted() is None:
    pytest.skip("torch runs on no OpenMP of GNU's here", allow_module_level=True)
MAP = (3, 4, 9, 7)
LAYERS = {
    "no norm": (lambda: KAConv2d(4, 6, 3, padding=1), MAP),
    "batch": (lambda: KAConv2d(4, 6, 3, padding=1, norm="batch"), MAP),
    "cumulative": (lambda: KAConv2d(4, 6, 3, norm=nn.BatchNorm2d(4, momentum=None)), MAP),
    "untracked": (lambda: KAConv2d(4, 6, 3, norm=nn.BatchNorm2d(4, track_running_stats=False)), MAP),
    "plain": (lambda: KAConv2d(4, 6, 3, norm=nn.BatchNorm2d(4, affine=False)), MAP),
    "instance": (lambda: KAConv1d(4, 6, 3, norm="instance"), (3, 4, 50)),
    "group": (lambda: KAConv2d(4, 6, 3, norm=nn.GroupNorm(2, 4)), MAP),
    "kept": (lambda: KAConv2d(4, 6, 3, norm="batch", spline=Spline(recompute=False)), MAP),
    "free": (lambda: KAConv2d(4, 6, 3, norm="batch", spline=Spline(input_grad="free")), MAP),
    "input": (lambda: KAConv2d(4, 6, 3, norm="batch", spline=Spline(sharing="input")), (3, 4, 20, 20)),
    "several": (lambda: KAConv2d(4, 6, 3, norm="batch", spline=Spline(sharing=2)), MAP),
    "fork": (lambda: KAFork2d(4, 6, 5, 3, padding=1, norm="batch"), MAP),
    "rows": (lambda: KALinear(4, 6, norm="layer"), (3, 5, 4)),
}


def results(make, shape, training, wanted, monkeypatch, taken):
    """Outputs, gradients and buffers; whether the ordinary way is ``taken`` is counted."""
    torch.manual_seed(0)
    calls, unit = [], make().train(training)
    for parameter in unit.parameters():
        nn.init.normal_(parameter)
    x = (2 * torch.randn(shape) + 1).requires_grad_(wanted)
    original = ordinary.ordinary
    monkeypatch.setattr(steps, "ordinary", lambda *a: calls.append(original(*a) if taken else None) or calls[-1])
    y = unit(x)
    ys = y if isinstance(y, tuple) else (y,)
    if any(y.requires_grad for y in ys):
        sum((y * torch.linspace(-1, 1, y.numel()).view(y.shape)).sum() for y in ys).backward()
    assert [call is not None for call in calls] == [taken]
    return [*ys, *([x.grad] if wanted else []), *(p.grad for p in unit.parameters()), *unit.buffers()]


@pytest.mark.parametrize("wanted", [True, False], ids=["inside", "first"])
@pytest.mark.parametrize("kind", LAYERS)
def test_it_is_what_the_steps_are(kind, wanted, monkeypatch):
    one, other = (results(*LAYERS[kind], True, wanted, monkeypatch, taken) for taken in (True, False))
    for mine, theirs in zip(one, other, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", ["no norm", "batch", "group", "rows"])
def test_without_gradients_too(kind, monkeypatch):
    with torch.no_grad():
        one, other = (results(*LAYERS[kind], False, False, monkeypatch, taken) for taken in (True, False))
    for mine, theirs in zip(one, other, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("kind", ["no norm", "batch", "group", "rows"])
def test_it_keeps_what_the_steps_keep(kind, monkeypatch):
    make, shape = LAYERS[kind]
    unit, x = make(), torch.randn(shape)
    kept = saved_bytes(lambda: unit(x), unit)
    monkeypatch.setattr(steps, "ordinary", lambda *_: None)
    assert kept == saved_bytes(lambda: unit(x), unit)


def test_a_second_backward_pass_finds_what_it_needs(monkeypatch):
    unit, x = KAConv2d(4, 6, 3, norm="batch"), torch.randn(MAP, requires_grad=True)
    y = unit(x).square().sum()
    first, second = (torch.autograd.grad(y, [x, *unit.parameters()], retain_graph=True) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize(
    "given",
    [
        torch.randn(2, 9, 7, 4).movedim(-1, 1),
        torch.randn(2, 4, 9, 7).double(),
        torch.zeros(0, 4, 9, 7),
    ],
    ids=["channels-last", "float64", "empty"],
)
def test_what_is_out_of_the_ordinary_goes_its_way(given):
    unit = KAConv2d(4, 6, 3, dtype=given.dtype)
    assert ordinary.ordinary(given, unit.coef, unit.base_weight, unit.phi, None, ()) is None
    assert unit(given).shape == (len(given), 6, 7, 5)
