"""The linear half of a KA layer against torch's own layers, with autograd for the gradients that are written out here."""

import itertools

import pytest
import torch
import torch.nn.functional as F

from allukan.ops.linear_maps import Convolution, MatrixProduct

# stride, padding, dilation, groups, surplus; kernel; shape of h
CONVOLUTIONS = {
    "1d": ((2,), (1,), (1,), 1, (), (3,), (3, 4, 17)),
    "2d-groups": ((1, 2), (2, 0), (2, 1), 2, (), (3, 2), (2, 4, 9, 7)),
    "2d-surplus": ((1, 1), (1, 2), (1, 1), 1, (1, 1), (2, 4), (2, 4, 5, 6)),
    "3d": ((1, 2, 1), (0, 1, 1), (2, 1, 1), 4, (0, 0, 1), (1, 3, 2), (2, 4, 3, 7, 4)),
}


def convolved(kind, h, weight, bias):
    """By torch's function, on an input that is padded by hand."""
    stride, padding, dilation, groups, surplus, _, _ = CONVOLUTIONS[kind]
    widths = [(pad - more, pad) for pad, more in zip(padding, surplus or (0,) * len(padding), strict=True)]
    h = F.pad(h, [width for pair in reversed(widths) for width in pair])
    return (F.conv1d, F.conv2d, F.conv3d)[len(stride) - 1](h, weight, bias, stride, 0, dilation, groups)


def multiplied(groups, h, weight, bias):
    """By one dense matrix, zero outside the blocks on its diagonal."""
    return F.linear(h, torch.block_diag(*weight.chunk(groups)), bias)


def close(found, wanted):
    torch.testing.assert_close(found, wanted, rtol=1e-12, atol=1e-12)


def check(linear, oracle, h, weight, bias):
    """Values, and the gradients of every subset that may be wanted; the others are None."""
    leaves = [t.requires_grad_() for t in (h, weight, bias)]
    wanted = oracle(*leaves)
    grad = torch.randn_like(wanted)
    gradients = torch.autograd.grad(wanted, leaves, grad)
    with torch.no_grad():
        close(linear.forward(h, weight, bias), wanted)
        close(linear.forward(h, weight, None), wanted - oracle(0 * h, weight, bias))
        for asked in itertools.product([True, False], repeat=3):
            found = linear.backward(grad, h, weight, asked)
            assert [gradient is not None for gradient in found] == list(asked)
            for mine, theirs, needed in zip(found, gradients, asked, strict=True):
                if needed:
                    close(mine, theirs)


@pytest.mark.parametrize("last", [False, True], ids=["", "channels-last"])
@pytest.mark.parametrize("kind", CONVOLUTIONS)
def test_a_convolution_and_its_gradients_are_torchs(kind, last):
    *options, kernel, shape = CONVOLUTIONS[kind]
    h, weight, bias = (torch.randn(s, dtype=torch.float64) for s in (shape, (8, shape[1] // options[3], *kernel), (8,)))
    if last:
        h = h.movedim(1, -1).contiguous().movedim(-1, 1)
    check(Convolution(*options), lambda *tensors: convolved(kind, *tensors), h, weight, bias)


@pytest.mark.parametrize(("groups", "shape"), [(1, (5, 6)), (1, (2, 3, 4, 6)), (1, (6,)), (2, (7, 6)), (3, (1, 6))])
def test_a_product_and_its_gradients_are_those_of_a_matrix_of_blocks(groups, shape):
    h, weight, bias = (torch.randn(s, dtype=torch.float64) for s in (shape, (4 * groups, 6 // groups), (4 * groups,)))
    check(MatrixProduct(groups), lambda *tensors: multiplied(groups, *tensors), h, weight, bias)


@pytest.mark.parametrize("kind", CONVOLUTIONS)
def test_no_sample_gives_no_output_and_no_gradient(kind):
    *options, kernel, shape = CONVOLUTIONS[kind]
    linear, h, weight = Convolution(*options), torch.empty(0, *shape[1:]), torch.randn(8, shape[1] // options[3], *kernel)
    y = linear.forward(h, weight, torch.randn(8))
    assert y.shape == (0, *convolved(kind, torch.zeros(shape), weight, None).shape[1:])
    grads = linear.backward(y, h, weight, (True, True, True))
    assert [grad.shape for grad in grads] == [h.shape, weight.shape, (8,)]
    assert not any(grad.any() for grad in grads)
