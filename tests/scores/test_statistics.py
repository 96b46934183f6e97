"""Oracles: scipy's own bootstrap, counting by hand, and how often an interval holds the truth."""

import warnings

import numpy as np
import pytest
from scipy import stats

from allukan.scores import METRICS, bootstrap_interval, holm, paired_difference, pooled_iou, summarise


def test_without_groups_it_is_scipys_interval():
    values = np.random.default_rng(0).beta(8, 2, 40)
    theirs = stats.bootstrap((values,), np.mean, n_resamples=5000, method="BCa", rng=np.random.default_rng(0))
    assert bootstrap_interval(values) == pytest.approx(tuple(theirs.confidence_interval), rel=5e-3)


def test_the_interval_leans_to_the_long_tail():
    values = np.r_[np.full(30, 0.9), 0.1, 0.0]  # Dice: mostly good, a few misses
    low, high = bootstrap_interval(values)
    assert values.mean() - low > 1.2 * (high - values.mean())


@pytest.mark.parametrize("groups", [None, [0, 0, 0, 1, 2, 2]])
@pytest.mark.parametrize("values", [[0.1] * 6, [0, 0, 0, 0, 0, 1], [1, 1, 1, 1, 1, 0.3]])
def test_degenerate_values_give_finite_intervals_and_no_warning(values, groups):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        low, high = bootstrap_interval(values, groups)
    assert min(values) - 1e-12 <= low <= np.mean(values) + 1e-12
    assert np.mean(values) - 1e-12 <= high <= max(values) + 1e-12


def test_one_value_and_one_group_are_points():
    assert bootstrap_interval([0.4]) == (0.4, 0.4)
    assert bootstrap_interval([0.25, 0.75], ["same", "same"]) == (0.5, 0.5)


@pytest.mark.parametrize(("confidence", "expected"), [(0.95, 0.95), (0.7, 0.7)])
def test_grouped_intervals_hold_the_truth_as_often_as_they_say(confidence, expected):
    rng = np.random.default_rng(1)
    held = 0
    for seed in range(200):
        groups = np.repeat(np.arange(30), rng.integers(1, 6, 30))
        values = rng.normal(0.6, 0.1, 30)[groups] + rng.normal(0, 0.02, len(groups))
        low, high = bootstrap_interval(values, list(groups), confidence=confidence, resamples=400, seed=seed)
        held += low <= 0.6 <= high
    assert abs(held / 200 - expected) < 0.08


def test_only_who_belongs_together_matters_not_the_names_of_groups():
    values = np.random.default_rng(2).random(9)
    assert bootstrap_interval(values, list("aabbccdde")) == bootstrap_interval(values, [1, 1, 2, 2, 3, 3, (4,), (4,), None])


@pytest.mark.parametrize(("values", "groups"), [([], None), ([0.5, np.nan], None), ([0.5, np.inf], None), ([0.5, 0.6], ["a"])])
def test_values_that_have_no_interval_are_refused(values, groups):
    with pytest.raises(ValueError, match="value"):
        bootstrap_interval(values, groups)


def test_thousands_of_cases_fit_in_memory():
    values = np.random.default_rng(3).random(4000)
    low, high = bootstrap_interval(values, resamples=300)
    assert high - low == pytest.approx(2 * 1.96 * values.std() / np.sqrt(4000), rel=0.2)


def test_paired_difference_is_tested_between_groups():
    rng = np.random.default_rng(4)
    a, b = rng.random(60), rng.random(60)
    assert paired_difference(a, b)["p"] == pytest.approx(stats.wilcoxon(a, b).pvalue)
    groups = list(np.repeat(np.arange(6), 10))
    gain = np.repeat([0.1, 0.2, 0.3, 0.1, 0.2, 0.3], 10)
    found = paired_difference(b + gain, b, groups)
    assert found["p"] == pytest.approx(2 / 2**6)  # six patients all better: not the tiny p-value of sixty images
    assert found["mean"] == pytest.approx(0.2)
    with pytest.raises(ValueError, match="paired"):
        paired_difference(a, b[:1])


def row(dice, status="ok", **more):
    return {**dict.fromkeys(METRICS, dice), "iou": dice / (2 - dice), "hd95": 1.0, "status": status, **more}


def test_classes_are_summarised_apart_and_rows_of_one_case_stay_together():
    scores = {"one": {"a": 0.2, "b": 0.4}, "two": {"a": 0.6, "b": 0.8}}
    rows = [row(dice, id=case, **{"class": name}) for case, pair in scores.items() for name, dice in pair.items()]
    summary = summarise(rows)
    assert {name: found["dice"]["mean"] for name, found in summary["classes"].items()} == pytest.approx({"a": 0.4, "b": 0.6})
    assert (summary["overall"]["cases"], summary["overall"]["groups"]) == (4, 2)
    assert summary["overall"]["dice"]["median"] == pytest.approx(0.5)


def test_plain_rows_are_cases_of_their_own():
    overall = summarise([row(0.5), row(0.7, "missed"), row(0.9)])["overall"]
    assert (overall["groups"], overall["status"]) == (3, {"ok": 2, "missed": 1})
    with pytest.raises(ValueError, match="value"):
        summarise([])


def test_pooled_iou_smooths_empty_batches_and_derives_dice_a_batch():
    truth = np.zeros((9, 1, 4, 4), bool)
    truth[8, 0, :2] = True  # eight empty images, then half an image of which half is found
    prediction = truth.copy()
    prediction[8, 0, 0] = False
    iou, dice = pooled_iou(prediction, truth)
    assert iou == pytest.approx((8 * 1 + 0.5) / 9, abs=1e-5)
    assert dice == pytest.approx((8 * 1 + 2 / 3) / 9, abs=1e-5)
    with pytest.raises(ValueError, match="N > 0"):
        pooled_iou(truth[:0], truth[:0])


def test_holm_as_r_does_it():
    """``p.adjust(c(0.01, 0.04, 0.03, 0.005), "holm")`` of R."""
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, 0.9]) == [1.0, 1.0]
    assert holm([]) == []
