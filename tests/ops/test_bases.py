"""Base activations against autograd."""

import pickle

import pytest
import torch

from allukan.ops.bases import BASES, base_derivative, base_function


@pytest.mark.parametrize("name", BASES)
def test_derivative_is_autograds(name):
    x = torch.randn(200, dtype=torch.float64, requires_grad=True)
    (expected,) = torch.autograd.grad(base_function(name)(x).sum(), x)
    torch.testing.assert_close(base_derivative(name)(x.detach()), expected)


@pytest.mark.parametrize("name", ["identity", "relu", "tanh"])
def test_derivative_is_finite_at_infinity(name):
    x = torch.tensor([-float("inf"), float("inf")], requires_grad=True)
    (expected,) = torch.autograd.grad(base_function(name)(x).sum(), x)
    assert torch.equal(base_derivative(name)(x.detach()), expected)


@pytest.mark.parametrize("name", BASES)
def test_value_carries_nan_on_and_the_function_is_picklable(name):
    assert base_function(name)(torch.tensor(float("nan"))).isnan()
    assert pickle.loads(pickle.dumps(base_function(name))) is base_function(name)
