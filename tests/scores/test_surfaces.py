"""HD95 and surface Dice against scipy's distance transform and against all pairs of points, in 2D and 3D, at any spacing."""

import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.metrics import compute_hausdorff_distance, compute_surface_dice
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


def border(mask):
    """Places of a mask with a neighbour along an axis that is not in it, or outside the image: one by one."""
    places = {tuple(place) for place in np.argwhere(mask).tolist()}
    steps = [tuple(step * (axis == a) for a in range(mask.ndim)) for axis in range(mask.ndim) for step in (-1, 1)]
    return [place for place in places if any(tuple(np.add(place, step).tolist()) not in places for step in steps)]


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (5.0, 0.5, 0.7), (0.4, 3.0, 1.0)])
def test_surfaces_agree_with_all_pairs_of_points(spacing):
    """By hand: every distance between the borders, each class at its own tolerance."""
    rng = np.random.default_rng(3)
    pairs = ndimage.binary_dilation(rng.random((2, 3, 6, 7, 8)) > 0.97, np.ones((1, 1, 2, 2, 2), bool))
    pairs[:, :, 3, 3, 3] = True
    tolerances = [0.5, 1.0, 4.0]
    for p, t, tolerance, scores in zip(*pairs, tolerances, case_metrics(*pairs, spacing, tolerances), strict=True):
        found, truth = (np.array(border(mask)) * spacing for mask in (p, t))
        distance = np.sqrt(((found[:, None] - truth[None]) ** 2).sum(-1))
        there, back = distance.min(1), distance.min(0)
        assert scores["hd95"] == pytest.approx(max(np.percentile(there, 95), np.percentile(back, 95)), rel=1e-4)
        close = (there <= tolerance).sum() + (back <= tolerance).sum()
        assert scores["surface_dice"] == pytest.approx(close / (len(there) + len(back)), rel=1e-4)


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_surfaces_are_monais_with_anisotropic_spacing_and_a_tolerance_a_class():
    rng = np.random.default_rng(4)
    pairs = ndimage.binary_opening(rng.random((2, 3, 9, 20, 22)) < 0.8, ndimage.generate_binary_structure(3, 1)[None, None])
    spacing, tolerances = (4.0, 0.8, 1.2), [0.5, 1.5, 3.0]
    a, b = (torch.from_numpy(masks)[None] for masks in pairs)
    hd95 = compute_hausdorff_distance(a, b, include_background=True, percentile=95, spacing=list(spacing))[0]
    surface = compute_surface_dice(a, b, tolerances, include_background=True, spacing=list(spacing))[0]
    found = case_metrics(*pairs, spacing, tolerances)
    assert [scores["hd95"] for scores in found] == pytest.approx(hd95.tolist(), rel=1e-5)
    assert [scores["surface_dice"] for scores in found] == pytest.approx(surface.tolist(), rel=1e-5)
    assert len({scores["surface_dice"] for scores in found}) == 3


def test_one_tolerance_is_that_of_every_class():
    rng = np.random.default_rng(5)
    a, b = rng.random((2, 2, 12, 12)) > 0.7
    assert case_metrics(a, b, tolerance_mm=1) == case_metrics(a, b, tolerance_mm=[1.0, 1.0])
    assert case_metrics(a, b, tolerance_mm=(1.0, 2.0))[1] == case_metrics(a, b, tolerance_mm=2.0)[1]


@pytest.mark.parametrize("tolerance", [-1.0, float("nan"), [1.0], [1.0, 1.0, 1.0], [1.0, -1.0]])
def test_tolerances_that_do_not_fit_are_refused(tolerance):
    with pytest.raises(ValueError, match="tolerance_mm"):
        case_metrics(*np.ones((2, 2, 4, 4), bool), tolerance_mm=tolerance)


@pytest.mark.parametrize("spacing", [(0.0, 1.0), (-1.0, 1.0), (float("nan"), 1.0), (float("inf"), 1.0)])
def test_a_spacing_that_is_none_is_refused(spacing):
    with pytest.raises(ValueError, match="must name 2 axes above 0"):
        case_metrics(*np.ones((2, 1, 4, 4), bool), spacing)


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
