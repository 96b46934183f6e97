"""What every engine must have and do (``ops/engines/dispatch.py``); a new one is tested by being listed there."""

import inspect

import pytest
import torch

from allukan.ops.engines import reference
from allukan.ops.engines.dispatch import COMPOSED, ENGINES, IMPLEMENTATIONS, available, choose, obstacle
from allukan.ops.phi import Phi, checked_phi

ARGUMENTS = {
    "obstacle": ["phi", "device", "dtype"],
    "forward": ["x", "coef", "base_weight", "phi", "to"],
    "backward": ["grad", "x", "coef", "base_weight", "phi", "to"],
    "expand": ["x", "phi"],
    "expand_backward": ["grad", "x", "phi"],
}
RUNNING, EXPANDING = (available(Phi(5, 3, (-3.0, 3.0), expanded=e), "cpu", torch.float32) for e in (False, True))


def missing(engine, names):
    return [n for n in names if list(inspect.signature(getattr(engine, n, lambda: 0)).parameters) != ARGUMENTS[n]]


def test_they_have_what_they_must():
    for name, engine in ENGINES.items():
        expands = engine.obstacle(Phi(5, 3, (-3.0, 3.0), expanded=True), "cpu", torch.float32) is None
        assert not missing(engine, ARGUMENTS if expands else ("obstacle", "forward", "backward")), name
        assert isinstance(engine.CHANNELS_LAST, bool)
    for engine in COMPOSED.values():
        assert list(inspect.signature(engine.forward).parameters) == ["x", "coef", "base_weight", "phi"]
        assert not missing(engine, ("expand",))


@pytest.mark.parametrize("phi", [Phi(5, 3, (-3.0, 3.0)), Phi(3, 2, (-1.0, 2.0), "rbf", "tanh", exact=False)], ids=str)
@pytest.mark.parametrize("name", EXPANDING)
def test_they_expand_as_the_reference(name, phi):
    x = torch.randn(3, 4, 9)
    wide = x.double().requires_grad_()
    wanted = reference.expand(wide, phi)
    grad = torch.randn(3, 4, phi.coefficients + 1, 9)
    (slope,) = torch.autograd.grad(wanted, wide, grad.double())
    torch.testing.assert_close(ENGINES[name].expand(x, phi), wanted.float(), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(ENGINES[name].expand_backward(grad, x, phi), slope.float(), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("phi", [Phi(5, 3, (-3.0, 3.0), blocks=2), Phi(3, 2, (-1.0, 2.0), "rbf", "tanh", exact=False)], ids=str)
@pytest.mark.parametrize("name", RUNNING)
def test_their_values_and_gradients_are_the_references(name, phi):
    tensors = torch.randn(3, 4, 5, 9), torch.randn(4, phi.coefficients), torch.randn(4)
    wide = [t.double().requires_grad_() for t in tensors]
    wanted = reference.forward(*wide, phi)
    grad = torch.randn(wanted.shape)
    gradients = torch.autograd.grad(wanted, wide, grad.double())
    torch.testing.assert_close(ENGINES[name].forward(*tensors, phi, None), wanted.float(), rtol=1e-5, atol=1e-5)
    found = ENGINES[name].backward(grad, *tensors, phi, None)
    assert found[3] is None
    for mine, theirs in zip(found[:3], gradients, strict=True):
        torch.testing.assert_close(mine, theirs.float(), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", IMPLEMENTATIONS[1:])
def test_by_name_it_runs_or_says_why_not(name):
    phi = Phi(5, 3, (-3.0, 3.0), impl=name)
    reason = obstacle(name, phi, "cpu", torch.float32)
    if reason is None:
        assert choose(phi, "cpu", torch.float32) == name
    else:
        with pytest.raises(ValueError, match="cannot run: ") as caught:
            choose(phi, "cpu", torch.float32)
        assert reason in str(caught.value)


def test_the_description_is_made_once():
    options = (5, 3, (-1.0, 1.0), "bspline", "silu", "free")
    assert checked_phi(*options) is checked_phi(*options)
    assert hash(Phi(5, 3, (-1.0, 1.0))) == hash(Phi(5, 3, (-1.0, 1.0)))
    assert not checked_phi(*options).exact
