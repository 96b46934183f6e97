"""Planes of a volume one after the other: the answer of the whole volume, in memory that does not grow with its depth."""

import pytest
import torch
from torch import nn

from allukan.inference.streaming import plane_logits, resized_planes, window_count
from allukan.models import slide
from allukan.models.layers import resize

CASES = [  # volume, window
    ((40, 33, 29), (16, 12, 20)),
    ((10, 33, 29), (16, 12, 20)),  # flatter than the window
    ((37, 5, 9), (16, 12, 20)),
    ((16, 12, 20), (16, 12, 20)),
    ((23, 12, 11), (7, 5, 9)),  # of odd sides
]


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return nn.Conv3d(2, 3, 3, padding=1).requires_grad_(False)


@pytest.mark.parametrize(("shape", "size"), CASES)
def test_planes_are_those_of_the_whole_volume_bit_for_bit(network, shape, size):
    """Oracle: MONAI's sliding window, which holds logits of the whole volume."""
    volume, ticks = torch.randn(2, *shape), []
    found = torch.stack(list(plane_logits(network, volume, size, tick=lambda: ticks.append(1))), dim=1)
    assert torch.equal(found, slide(network, volume[None], size)[0])
    assert len(ticks) == window_count(shape, size)


@pytest.mark.parametrize("flip", [(0,), (1, 2), (0, 1, 2)])
def test_mirrored_planes_are_those_of_the_mirrored_volume(network, flip):
    volume, size, axes = torch.randn(2, 40, 33, 29), (16, 12, 20), [axis + 1 for axis in flip]
    found = torch.stack(list(plane_logits(network, volume, size, flip=flip)), dim=1)
    assert torch.allclose(found, slide(network, volume.flip(axes)[None], size)[0].flip(axes), atol=1e-5)


@pytest.mark.parametrize("flip", [(0,), (1, 2), (0, 1, 2)])
def test_mirrored_planes_of_a_volume_that_lacks_an_odd_number(network, flip):
    """Of 5 zeros 2 come before and 3 behind, as the network sees the volume."""
    volume, size, axes = torch.randn(2, 11, 7, 29), (16, 12, 20), [axis + 1 for axis in flip]
    found = torch.stack(list(plane_logits(network, volume, size, flip=flip)), dim=1)
    assert torch.allclose(found, slide(network, volume.flip(axes)[None], size)[0].flip(axes), atol=1e-5)


@pytest.mark.parametrize("want", [(20, 40, 29), (40, 33, 29), (81, 33, 30), (1, 4, 5)])
def test_planes_of_other_voxels_are_those_of_the_whole_volume(want):
    volume = torch.rand(3, 40, 33, 29)
    found = torch.stack(list(resized_planes(iter(volume.unbind(1)), volume.shape[1:], want)), dim=1)
    assert torch.allclose(found, resize(volume[None], want)[0], atol=1e-5)


def test_no_more_planes_are_held_than_a_window_is_deep(network, monkeypatch):
    """Counted by the largest tensor that is made, whatever the depth of the volume."""
    sizes, made = [], torch.Tensor.new_zeros

    def counted(self, *shape):
        sizes.append(shape)
        return made(self, *shape)

    monkeypatch.setattr(torch.Tensor, "new_zeros", counted)
    for depth in (20, 50):
        sizes.clear()
        for _ in plane_logits(network, torch.randn(2, depth, 9, 9), (8, 9, 9)):
            pass
        assert sizes == [(8, 9, 9), (3, 8, 9, 9)]
