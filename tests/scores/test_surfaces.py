"""HD95 and surface Dice against scipy's distance transform: the same figures another way, in 2D and 3D, at any spacing."""

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from allukan.scores import case_metrics

SHAPES = {2: (24, 30), 3: (8, 10, 12)}


def outline(mask):
    """Border pixels, those at the border of the image included."""
    return mask & ~ndimage.binary_erosion(mask)


def distances(a, b, spacing):
    """From every border pixel of a to the border of b."""
    return ndimage.distance_transform_edt(~outline(b), sampling=spacing)[outline(a)]


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([2, 3]), st.floats(0.05, 0.5))
def test_surfaces_agree_with_the_distance_transform(seed, dims, share):
    rng = np.random.default_rng(seed)
    spacing = tuple(rng.uniform(0.3, 3.0, dims))
    a, b = (ndimage.binary_opening(rng.random(SHAPES[dims]) < share + 0.3) for _ in range(2))
    a.flat[rng.integers(a.size)] = b.flat[rng.integers(b.size)] = True  # never empty
    scores = case_metrics(a[None], b[None], spacing, tolerance_mm=1.5)[0]
    there, back = distances(a, b, spacing), distances(b, a, spacing)
    assert scores["hd95"] == pytest.approx(max(np.percentile(there, 95), np.percentile(back, 95)), rel=1e-4)
    close = (there <= 1.5).sum() + (back <= 1.5).sum()
    assert scores["surface_dice"] == pytest.approx(close / (len(there) + len(back)), rel=1e-4)


def test_a_shift_beyond_the_tolerance_costs_the_two_far_sides():
    a, b = np.zeros((1, 40, 40), bool), np.zeros((1, 40, 40), bool)
    a[0, 10:20, 10:20] = b[0, 10:20, 13:23] = True
    far, near = (case_metrics(a, b, (1.0, s))[0] for s in (1.0, 0.5))  # 3 mm and 1.5 mm off
    assert (far["hd95"], near["hd95"]) == (3.0, 1.5)
    assert near["surface_dice"] == 1.0
    assert 0.5 < far["surface_dice"] < 0.8


def test_flipped_views_score_like_copies_and_no_warning_escapes():
    rng = np.random.default_rng(0)
    a, b = rng.random((2, 1, 16, 16)) > 0.5
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert case_metrics(a[..., ::-1], b[..., ::-1]) == case_metrics(a[..., ::-1].copy(), b[..., ::-1].copy())


def test_no_failure_ever_beats_a_poor_answer():
    truth = np.zeros((1, 30, 30), bool)
    truth[0, :3, :3] = True
    poor = np.zeros_like(truth)
    poor[0, -1, -1] = True
    answered, missed = case_metrics(poor, truth)[0], case_metrics(np.zeros_like(truth), truth)[0]
    assert missed["hd95"] > answered["hd95"]
    assert all(np.isfinite(value) for value in missed.values() if not isinstance(value, str))


def test_diagonal_is_in_the_unit_of_the_spacing():
    empty, full = np.zeros((1, 4, 6, 8), bool), np.ones((1, 4, 6, 8), bool)
    assert case_metrics(full, empty, (3.0, 2.0, 0.5))[0]["hd95"] == pytest.approx(np.hypot(np.hypot(12, 12), 4))


@pytest.mark.parametrize(
    ("prediction", "truth", "spacing", "message"),
    [
        (np.zeros((1, 4, 4), bool), np.zeros((1, 4, 5), bool), (1, 1), "same shape"),
        (np.zeros((1, 4, 4), np.float32), np.zeros((1, 4, 4), bool), (1, 1), "float32"),
        (np.zeros((1, 4, 4), bool), np.full((1, 4, 4), 255, np.uint8), (1, 1), "uint8"),
        (np.zeros((1, 4, 4, 4), bool), np.zeros((1, 4, 4, 4), bool), (1, 1), "3 axes"),
    ],
)
def test_wrong_masks_are_refused(prediction, truth, spacing, message):
    with pytest.raises(ValueError, match=message):
        case_metrics(prediction, truth, spacing)
