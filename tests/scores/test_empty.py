"""The policy for empty masks, and volumes in ml."""

import math

import numpy as np
import pytest

from allukan.scores import EMPTY_MASKS, METRICS, VOLUMES, EmptyMasks, EmptyRule, case_metrics, volume_metrics


def masks(truth, prediction, shape=(1, 4, 6, 8)):
    found = np.zeros((2, *shape), bool)
    found[0, :, 1:3, 1:3, :2], found[1, :, 1:3, 1:4, :3] = truth, prediction
    return found[1], found[0]


def test_every_metric_has_a_rule_and_no_other():
    assert set(EMPTY_MASKS.rules) == set(METRICS)


@pytest.mark.parametrize(
    ("truth", "prediction", "status", "overlap", "hd95"),
    [
        (False, False, "both_empty", 1.0, 0.0),
        (True, False, "missed", 0.0, math.sqrt(12**2 + 6**2 + 16**2)),
        (False, True, "false_alarm", 0.0, math.sqrt(12**2 + 6**2 + 16**2)),
    ],
)
def test_the_rule_of_before(truth, prediction, status, overlap, hd95):
    scores = case_metrics(*masks(truth, prediction), spacing_mm=(3.0, 1.0, 2.0))[0]
    assert scores["status"] == status
    assert [scores[name] for name in ("iou", "dice", "surface_dice")] == [overlap] * 3
    assert scores["hd95"] == pytest.approx(hd95)


def test_a_policy_that_leaves_a_metric_out_is_refused():
    with pytest.raises(ValueError, match="no rule for iou, hd95, surface_dice"):
        case_metrics(*masks(True, True), empty=EmptyMasks({"dice": EmptyRule(1.0, 0.0, None)}))


def test_another_policy_counts():
    """As challenges that leave out cases without a truth have it."""
    left_out = EmptyMasks(dict.fromkeys(METRICS, EmptyRule(None, 0.0, None)))
    alarm = case_metrics(*masks(False, True), empty=left_out)[0]
    assert [alarm[name] for name in METRICS] == [None] * 4
    assert alarm["status"] == "false_alarm"
    assert case_metrics(*masks(True, True), empty=left_out) == case_metrics(*masks(True, True))


@pytest.mark.parametrize(
    ("truth", "prediction", "percent"),
    [(True, True, 100 * (18 - 8) / 8), (True, False, -100.0), (False, False, 0.0), (False, True, None)],
)
def test_volumes_are_voxels_times_their_size(truth, prediction, percent):
    spacing = (3.0, 0.5, 0.25)
    pair = masks(truth, prediction)
    scores = case_metrics(*pair, spacing_mm=spacing)[0]
    found, there = (float(np.count_nonzero(mask) * np.prod(spacing) / 1000) for mask in pair)
    assert (scores["truth_ml"], scores["predicted_ml"]) == pytest.approx((there, found))
    assert scores["volume_difference_ml"] == pytest.approx(found - there)
    assert scores["volume_difference_percent"] == (None if percent is None else pytest.approx(percent))


def test_no_volume_of_what_has_no_size_or_no_depth():
    square = np.ones((1, 4, 4), bool)
    for scores in (case_metrics(*masks(True, True)), case_metrics(square, square, (1.0, 1.0)), case_metrics(square, square)):
        assert not set(VOLUMES) & set(scores[0])
    assert set(VOLUMES) <= set(case_metrics(*masks(True, True), spacing_mm=(1.0, 1.0, 1.0))[0])


def test_a_ball_has_the_volume_of_a_ball():
    """Of 20 mm radius, in voxels of 2.5×1×0.8 mm: 4/3 π r³ = 33.5 ml."""
    spacing = (2.5, 1.0, 0.8)
    axes = np.meshgrid(*(np.arange(-25, 25, s) for s in spacing), indexing="ij")
    ball = int((sum(axis**2 for axis in axes) < 20**2).sum())
    assert volume_metrics(ball, 0, math.prod(spacing))["truth_ml"] == pytest.approx(4 / 3 * math.pi * 8, rel=0.01)
