"""Oracles: scikit-learn for overlap, MONAI on the whole image and known distances for surfaces."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.metrics import compute_hausdorff_distance, compute_surface_dice
from sklearn.metrics import f1_score, jaccard_score

from allukan.scores import METRICS, bootstrap_interval, case_metrics, paired_difference, pooled_iou, summarise


def square(top, left, size=10, shape=(40, 50)):
    mask = np.zeros((1, *shape), bool)
    mask[0, top : top + size, left : left + size] = True
    return mask


def test_overlap_is_scikit_learns():
    rng = np.random.default_rng(0)
    a, b = rng.random((3, 20, 30)) > 0.6, rng.random((3, 20, 30)) > 0.4
    for p, t, scores in zip(a, b, case_metrics(a, b), strict=True):
        assert scores["iou"] == pytest.approx(jaccard_score(t.ravel(), p.ravel()))
        assert scores["dice"] == pytest.approx(f1_score(t.ravel(), p.ravel()))


def test_a_shifted_square_is_as_far_off_as_it_was_shifted():
    scores = case_metrics(square(10, 14), square(10, 10), spacing_mm=(1.0, 0.5), tolerance_mm=2.0)[0]
    assert scores["hd95"] == pytest.approx(2.0)  # four pixels of half a millimetre
    assert scores["surface_dice"] == 1.0
    assert case_metrics(square(10, 14), square(10, 10))[0]["hd95"] == pytest.approx(4.0)


@pytest.mark.parametrize(
    ("prediction", "truth", "status", "dice", "hd95"),
    [
        (square(0, 0, 0), square(0, 0, 0), "both_empty", 1.0, 0.0),
        (square(0, 0, 0), square(5, 5), "missed", 0.0, np.hypot(40, 50)),
        (square(5, 5), square(0, 0, 0), "false_alarm", 0.0, np.hypot(40, 50)),
    ],
)
def test_empty_masks_follow_the_rule(prediction, truth, status, dice, hd95):
    scores = case_metrics(prediction, truth)[0]
    assert (scores["status"], scores["dice"], scores["iou"], scores["surface_dice"]) == (status, dice, dice, dice)
    assert scores["hd95"] == pytest.approx(hd95)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1))
@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_cropping_to_the_masks_changes_nothing(seed):
    rng = np.random.default_rng(seed)
    a, b = square(*rng.integers(0, 38, 2), size=rng.integers(1, 15)), square(*rng.integers(0, 38, 2), size=rng.integers(1, 15))
    scores = case_metrics(a, b)[0]
    pair = [torch.from_numpy(m)[None] for m in (a, b)]
    hd95 = compute_hausdorff_distance(*pair, include_background=True, percentile=95)
    surface = compute_surface_dice(*pair, [2.0], include_background=True)
    assert scores["hd95"] == pytest.approx(float(hd95))
    assert scores["surface_dice"] == pytest.approx(float(surface))


def test_pooled_iou_is_the_weighted_mean_over_batches():
    rng = np.random.default_rng(1)
    a, b = rng.random((11, 1, 8, 8)) > 0.5, rng.random((11, 1, 8, 8)) > 0.5
    parts = [(jaccard_score(b[s].ravel(), a[s].ravel()), b[s].shape[0]) for s in (slice(0, 8), slice(8, 11))]
    iou, _ = pooled_iou(a, b)
    assert iou == pytest.approx(np.average([p for p, _ in parts], weights=[n for _, n in parts]), abs=1e-6)


def test_intervals_cover_widen_with_groups_and_repeat():
    rng = np.random.default_rng(2)
    values = rng.normal(0.7, 0.1, 200)
    low, high = bootstrap_interval(values)
    assert low < values.mean() < high
    assert high - low == pytest.approx(2 * 1.96 * values.std() / np.sqrt(200), rel=0.15)
    assert bootstrap_interval(values) == (low, high)
    clustered = np.repeat(rng.normal(0.7, 0.1, 20), 10)
    wide = bootstrap_interval(clustered, list(np.repeat(np.arange(20), 10)))
    assert wide[1] - wide[0] > 2 * np.diff(bootstrap_interval(clustered))[0]
    with pytest.raises(ValueError, match="at least one"):
        bootstrap_interval([])


def test_paired_difference_sees_a_small_constant_gain():
    rng = np.random.default_rng(3)
    a = rng.random(50)
    found = paired_difference(a + 0.01 + 0.001 * rng.random(50), a)
    assert found["low"] > 0
    assert found["p"] < 1e-6
    assert paired_difference(a, a) == {"mean": 0.0, "low": 0.0, "high": 0.0, "p": 1.0}


def test_summary_counts_what_happened():
    rows = [
        {"class": "a", "group": g, **dict.fromkeys(METRICS, v), "status": s}
        for g, v, s in [("1", 1.0, "both_empty"), ("1", 0.5, "ok"), ("2", 0.0, "missed")]
    ]
    overall = summarise(rows)["overall"]
    assert overall["cases"] == 3
    assert overall["groups"] == 2
    assert overall["dice"]["mean"] == pytest.approx(0.5)
    assert overall["status"] == {"both_empty": 1, "ok": 1, "missed": 1}
