"""Base activations against autograd."""

import pickle

import pytest
import torch

from allukan.ops.activations import BASES, base_derivative, base_function, split_base

ALL = (*BASES, "leaky_relu:0.1")


@pytest.mark.parametrize("name", ALL)
def test_derivative_is_autograds(name):
    x = torch.randn(200, dtype=torch.float64, requires_grad=True)
    (expected,) = torch.autograd.grad(base_function(name)(x).sum(), x)
    torch.testing.assert_close(base_derivative(name)(x.detach()), expected)


@pytest.mark.parametrize("name", ["identity", "relu", "tanh", "leaky_relu:0.1"])
def test_derivative_is_finite_at_infinity(name):
    x = torch.tensor([-float("inf"), float("inf")], requires_grad=True)
    (expected,) = torch.autograd.grad(base_function(name)(x).sum(), x)
    assert torch.equal(base_derivative(name)(x.detach()), expected)


@pytest.mark.parametrize("name", ALL)
def test_value_and_slope_carry_nan_on_and_the_function_is_picklable(name):
    nan = torch.tensor(float("nan"))
    assert base_function(name)(nan).isnan()
    assert name == "identity" or base_derivative(name)(nan).isnan()
    x = torch.randn(9)
    assert torch.equal(pickle.loads(pickle.dumps(base_function(name)))(x), base_function(name)(x))


@pytest.mark.parametrize("slope", ["0", "0.01", "1e-2", "0.999"])
def test_leaky_relu_is_torchs(slope):
    x = torch.randn(50)
    assert torch.equal(base_function(f"leaky_relu:{slope}")(x), torch.nn.functional.leaky_relu(x, float(slope)))
    assert split_base(f"leaky_relu:{slope}") == ("leaky_relu", float(slope))


@pytest.mark.parametrize("name", ["leaky_relu", "leaky_relu:1", "leaky_relu:-0.1", "leaky_relu:nan", "leaky_relu:x"])
def test_a_slope_out_of_range_is_told_in_one_sentence(name):
    with pytest.raises(ValueError, match="slope from 0 to below 1") as caught:
        base_function(name)
    assert repr(name) in str(caught.value)


@pytest.mark.parametrize("name", ["selu", "silu:1", "", 3, None])
def test_an_unknown_base_names_the_known_ones(name):
    with pytest.raises(ValueError, match=r"silu, .*leaky_relu:SLOPE"):
        base_derivative(name)
