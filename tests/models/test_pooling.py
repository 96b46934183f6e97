"""Max pooling against torch's own."""

import pytest
import torch
import torch.nn.functional as F

from allukan.costs import saved_bytes
from allukan.models.pooling import max_pool

SHAPES = [(2, 3, 4, 6), (1, 2, 5, 7), (2, 1, 1, 3), (1, 2, 4, 5, 3), (2, 2, 6, 4, 8)]
WINDOWS = [(2, 2, 2), (1, 2, 2), (2, 1, 2), (2, 2, 1), (2, 1, 1), (1, 2, 1)]


@pytest.mark.parametrize("windows", WINDOWS)
@pytest.mark.parametrize("shape", SHAPES)
def test_it_is_torchs(shape, windows):
    x, pool = torch.randn(shape, dtype=torch.float64, requires_grad=True), F.max_pool2d if len(shape) == 4 else F.max_pool3d
    windows = windows[: len(shape) - 2]
    mine, theirs = max_pool(x, windows), pool(x, windows, ceil_mode=True)
    assert torch.equal(mine, theirs)
    g = torch.randn_like(theirs)
    assert torch.equal(*(torch.autograd.grad(y, x, g)[0] for y in (mine, theirs)))
    assert torch.autograd.gradcheck(max_pool, (x, windows))


def test_windows_of_one_change_and_keep_nothing():
    x = torch.randn(1, 2, 5, 7, requires_grad=True)
    assert max_pool(x, (1, 1)) is x


def test_it_keeps_a_byte_a_window():
    x = torch.randn(2, 3, 16, 16, requires_grad=True)
    assert saved_bytes(lambda: max_pool(x, (2, 2))) == 2 * 3 * 8 * 8


def test_channels_last_and_half_precision():
    x = torch.randn(2, 4, 6, 6).to(torch.bfloat16, memory_format=torch.channels_last).requires_grad_()
    y = max_pool(x, (2, 2))
    y.sum().backward()
    assert torch.equal(y, F.max_pool2d(x, 2))
    assert x.grad.sum() == y.numel()
