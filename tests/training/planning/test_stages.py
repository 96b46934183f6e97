"""Strides, kernels, spacings and patches, against plans that nnU-Net publishes and against what a network needs."""

from math import prod

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from allukan.data.fingerprint import Fingerprint
from allukan.models import build_model
from allukan.training.planning import size_at, stages_for, target_spacing
from allukan.training.planning.patches import LARGEST_PICTURE, SMALLEST, patches, pictures


def found(size, spacing=None, finest=None, extent=None, **more):
    """A fingerprint of images of one size."""
    extent = extent or tuple(n * s for n, s in zip(size, spacing or (1.0,) * len(size), strict=True))
    rest = {"cases": 100, "smallest": size, "largest": size, "voxels": 100 * prod(size), "channels": (), "classes": ("a",)}
    rest |= {"class_shares": (0.1,), "class_cases": (100,), "sampled": False} | more
    return Fingerprint(size=size, spacing_mm=spacing, finest_mm=finest or spacing, extent_mm=extent, **rest)


# patch and spacing of 3d_fullres as nnU-Net 2.8.1 plans it for medians of the Decathlon: strides after those of its first stage
NNUNET = [
    ("hippocampus", (40, 56, 40), (1.0, 1.0, 1.0), [(2, 2, 2), (2, 2, 2), (2, 2, 2)]),
    ("heart", (80, 192, 160), (1.37, 1.25, 1.25), [(2, 2, 2), (2, 2, 2), (2, 2, 2), (2, 2, 2), (1, 2, 2)]),
    ("prostate", (20, 320, 256), (3.6, 0.62, 0.62), [(1, 2, 2)] * 2 + [(2, 2, 2)] * 2 + [(1, 2, 2)] * 2),
    ("brain tumour", (128, 128, 128), (1.0, 1.0, 1.0), [(2, 2, 2)] * 5),
]


@pytest.mark.parametrize(("name", "patch", "spacing", "pooling"), NNUNET)
def test_axes_are_halved_as_nnunet_does(name, patch, spacing, pooling):
    strides = stages_for(patch, spacing).strides
    assert list(strides) == pooling[:5]  # as many as this network has stages for


def test_kernels_are_flat_until_voxels_are_alike():
    assert stages_for((20, 320, 256), (3.6, 0.62, 0.62)).kernels == ((1, 3, 3), (1, 3, 3), *[(3, 3, 3)] * 4)
    assert set(stages_for((128,) * 3).kernels) == {(3, 3, 3)}
    assert stages_for((5, 64, 64), (10.0, 1.0, 1.0)).kernels[-1] == (3, 3, 3)


def test_five_halvings_are_the_usual_network():
    assert stages_for((128, 128, 128)).topology() == stages_for((256, 256)).topology() == {}
    assert stages_for((64, 64, 64)).topology()["strides"] == [[2, 2, 2]] * 4
    assert stages_for((7, 7, 7)).topology() == {"strides": [[1, 1, 1]], "kernels": [[3, 3, 3]] * 2}


SIZES = st.lists(st.integers(1, 300), min_size=2, max_size=3)


@settings(max_examples=200, deadline=None)
@given(SIZES, st.lists(st.floats(0.3, 8.0), min_size=3, max_size=3))
def test_an_axis_that_is_halved_keeps_four_voxels_and_no_long_axis_is_halved(size, spacing):
    spacing = spacing[: len(size)]
    stages = stages_for(size, spacing)
    assert 1 <= len(stages.strides) <= 5
    assert len(stages.kernels) == len(stages.strides) + 1
    left, voxel = list(size), list(spacing)
    for stride in stages.strides:
        for axis, factor in enumerate(stride):
            if factor == 2:
                assert left[axis] >= 8
                assert voxel[axis] < 2 * min(side for side, n in zip(voxel, left, strict=True) if n >= 8)
        left = [-(-n // factor) for n, factor in zip(left, stride, strict=True)]
        voxel = [side * factor for side, factor in zip(voxel, stride, strict=True)]


@settings(max_examples=100, deadline=None)
@given(SIZES, st.lists(st.floats(0.3, 8.0), min_size=3, max_size=3))
@example([57, 9, 9], [0.3125, 5.0, 5.0])
def test_patches_begin_with_the_image_shrink_and_fit_their_stages(size, spacing):
    spacing = spacing[: len(size)]
    all_patches = list(patches(size, spacing))
    first, last = all_patches[0].patch, all_patches[-1].patch
    assert all(n <= p < n + 32 for n, p in zip(size, first, strict=True))
    for patch, stages in all_patches:
        assert all(n % factor == 0 for n, factor in zip(patch, stages.total, strict=True))
        assert stages_for(patch, spacing) == stages
    voxels = [prod(patch) for patch, _ in all_patches]
    assert voxels == sorted(voxels, reverse=True)
    assert len(set(voxels)) == len(voxels)
    assert all(n <= max(2 * SMALLEST, 0) for n in last)


def test_patches_are_as_cubic_in_mm_as_the_image_allows():
    for patch, _ in patches((40, 512, 512), (5.0, 1.0, 1.0)):
        if patch[1] <= 192:
            break
        assert patch[0] == 40
    smallest = list(patches((400, 400, 400), (1.0, 1.0, 1.0)))[-1].patch
    assert smallest == (32, 32, 32)


def test_pictures_keep_their_proportions():
    sizes = [patch for patch, _ in pictures((1500, 2000))]
    assert sizes[0] == (384, LARGEST_PICTURE)
    assert all(n % 32 == 0 for size in sizes for n in size)
    assert all(0.5 <= height / width <= 1 for height, width in sizes)
    assert [patch for patch, _ in pictures((20, 20))] == [(32, 32)]


def test_a_network_of_such_stages_computes():
    for size, spacing in [((40, 56, 40), None), ((6, 48, 32), (8.0, 1.0, 1.0)), ((3, 40, 20), (1.0, 1.0, 1.0))]:
        patch, stages = next(patches(size, spacing))
        options = {"topology": stages.topology()}
        network = build_model("convtwin-tiny", in_channels=1, out_channels=2, spatial_dims=3, **options)
        assert network(torch.zeros(2, 1, *patch)).shape == (2, 2, *patch)


@pytest.mark.parametrize(
    ("size", "spacing", "finest", "target"),
    [
        ((36, 50, 35), (1.0, 1.0, 1.0), (0.5, 0.5, 0.5), (1.0, 1.0, 1.0)),
        ((20, 320, 320), (4.0, 0.6, 0.6), (3.0, 0.4, 0.4), (3.0, 0.6, 0.6)),
        ((20, 320, 320), (4.0, 0.6, 0.6), (0.3, 0.4, 0.4), (0.6, 0.6, 0.6)),  # never finer than the other axes
        ((200, 320, 320), (4.0, 0.6, 0.6), (3.0, 0.4, 0.4), (4.0, 0.6, 0.6)),  # long voxels, yet many slices
        ((20, 320, 320), (1.5, 0.6, 0.6), (1.0, 0.4, 0.4), (1.5, 0.6, 0.6)),  # not three times as long
        ((320, 20, 320), (0.6, 4.0, 0.5), (0.4, 3.0, 0.4), (0.6, 3.0, 0.5)),
        ((512, 512), None, None, None),
    ],
)
def test_target_spacing_is_the_median_but_for_few_slices_of_long_voxels(size, spacing, finest, target):
    assert target_spacing(found(size, spacing, finest)) == target


def test_the_size_at_a_spacing_is_that_of_the_extent():
    assert size_at(found((20, 320, 320), (4.0, 0.6, 0.6)), (2.0, 0.6, 1.2)) == (40, 320, 160)
    assert size_at(found((480, 640)), None) == (480, 640)
