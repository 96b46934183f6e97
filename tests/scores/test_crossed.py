"""Oracles: analysis of variance by hand, scipy's t-tests and their power tables, and how often an interval holds the truth."""

import math

import numpy as np
import pytest
from scipy import stats

from allukan.scores import crossed_bootstrap, crossed_difference, mean_difference
from allukan.scores.difference import CrossedDifference, Part


def table(seeds, groups, seed, *, training=1.0, group=1.0, rest=1.0, part=1.0):
    """Differences of a two-way random-effects model; of ``part`` of the groups, drawn anew by every seed."""
    rng = np.random.default_rng(seed)
    found = rng.normal(0, training, (seeds, 1)) + rng.normal(0, group, groups) + rng.normal(0, rest, (seeds, groups))
    for row in found if part < 1 else ():
        row[rng.permutation(groups)[round(part * groups) :]] = np.nan
    return found


def test_a_full_table_is_the_two_way_analysis_of_variance():
    d = table(4, 9, 0)
    by_seed, by_group, mean = d.mean(1), d.mean(0), d.mean()
    ms_seed = 9 * ((by_seed - mean) ** 2).sum() / 3
    ms_group = 4 * ((by_group - mean) ** 2).sum() / 8
    ms_rest = ((d - by_seed[:, None] - by_group + mean) ** 2).sum() / 24
    found = crossed_difference(d)
    assert found.mean == pytest.approx(mean)
    assert found.se == pytest.approx(math.sqrt((ms_seed + ms_group - ms_rest) / 36))
    assert found.components == pytest.approx(
        [math.sqrt((ms_seed - ms_rest) / 9), math.sqrt((ms_group - ms_rest) / 4), math.sqrt(ms_rest)]
    )
    assert found.se_trainings == pytest.approx(math.sqrt((ms_seed - ms_rest) / 36))
    assert found.se_cases == pytest.approx(math.sqrt(ms_group / 36))
    freedom = (ms_seed + ms_group - ms_rest) ** 2 / (ms_seed**2 / 3 + (ms_group - ms_rest) ** 2 / 8)
    half = stats.t.ppf(0.975, freedom) * found.se
    assert found.interval == pytest.approx((mean - half, mean + half))
    assert found.p == pytest.approx(2 * stats.t.sf(abs(mean) / found.se, freedom))


def test_seeds_without_a_common_case_are_a_t_test_of_their_means():
    d = np.full((3, 30), np.nan)
    for number, row in enumerate(table(3, 30, 1, training=3)):
        d[number, 10 * number : 10 * number + 10] = row[10 * number : 10 * number + 10]
    found, theirs = crossed_difference(d), stats.ttest_1samp(np.nanmean(d, 1), 0)
    assert found.p == pytest.approx(theirs.pvalue)
    assert found.interval == pytest.approx(tuple(theirs.confidence_interval()))


@pytest.mark.parametrize("part", [1.0, 0.4])
def test_the_standard_error_is_right_on_average_for_groups_of_several_sizes(part):
    """Groups that are larger count more; the error of the mean over many tables is what the tables say of themselves."""
    sizes = np.random.default_rng(0).integers(1, 6, 20)
    groups = np.repeat(np.arange(20), sizes)
    found = [crossed_difference(table(4, 20, seed, part=part)[:, groups], list(groups)) for seed in range(1500)]
    assert np.mean([one.se**2 for one in found]) == pytest.approx(np.var([one.mean for one in found]), rel=0.12)


def test_cases_of_one_group_are_one_and_names_do_not_matter():
    d = table(3, 6, 2)
    three = crossed_difference(np.repeat(d, 3, axis=1), [name for name in "abcdef" for _ in range(3)])
    assert three.se == pytest.approx(crossed_difference(d).se)
    assert three.interval == pytest.approx(crossed_difference(d).interval)


def test_one_seed_claims_nothing_of_trainings():
    d = table(1, 12, 3)
    found, theirs = crossed_difference(d), stats.ttest_1samp(d[0], 0)
    assert found.interval == pytest.approx(tuple(theirs.confidence_interval()))
    assert all(math.isnan(figure) for figure in (found.p, found.se, found.se_trainings, found.seeds_needed(0.1)))
    assert found.se_cases == pytest.approx(d.std(ddof=1) / math.sqrt(12))
    two = mean_difference([found, crossed_difference(table(3, 12, 4))])
    assert two.seeds == 1
    assert math.isnan(two.p)
    assert np.isfinite(two.interval).all()


def test_one_group_has_no_interval():
    found = crossed_difference(table(3, 4, 5), ["same"] * 4)
    assert math.isfinite(found.mean)
    assert np.isnan([*found.interval, found.p, found.se_cases, found.se_trainings]).all()


def test_equal_models_and_a_constant_gain():
    assert crossed_difference(np.zeros((3, 5))).p == 1
    gain = crossed_difference(np.full((3, 5), 0.25))
    assert (gain.p, gain.interval, gain.seeds_needed(0.01)) == (0, (0.25, 0.25), 2)


def test_several_sets_are_welchs_test():
    """Without any spread over cases the mean of two sets is the difference of two samples of seeds."""
    x, y = np.random.default_rng(6).normal(1, [[1], [3]], (2, 5))
    found = mean_difference([crossed_difference(np.repeat(v[:, None], 4, axis=1)) for v in (x, -y[:3])])
    assert found.mean == pytest.approx((x.mean() - y[:3].mean()) / 2)
    assert found.p == pytest.approx(stats.ttest_ind(x, y[:3], equal_var=False).pvalue)
    assert found.seeds == 3


@pytest.mark.parametrize(("effect", "seeds"), [(1.0, 10), (0.5, 34), (0.2, 199)])
def test_seeds_needed_are_those_of_the_power_tables(effect, seeds):
    """One-sample t-test, two-sided, 5 %, 80 %: as G*Power has it."""
    assert CrossedDifference(0.0, (Part(1 / 3, 0.0, 0.0, 3, 1),)).seeds_needed(effect) == seeds


def test_more_seeds_do_not_help_where_the_cases_are_too_few():
    parts = Part(trainings=1e-4, drawn=0.0, shared=1e-4, seeds=3, freedom=50)
    assert CrossedDifference(0.0, (parts,)).seeds_needed(0.02) == math.inf
    assert CrossedDifference(0.0, (parts,)).seeds_needed(0.04) < 40


@pytest.mark.parametrize("wrong", [[0.1, 0.2], [[]], [[0.1, math.inf]], [[0.1, 0.2], [math.nan, math.nan]]])
def test_tables_that_say_nothing_are_refused(wrong):
    with pytest.raises(ValueError, match="differences must be"):
        crossed_difference(wrong)


def test_other_misuse_is_refused():
    one = crossed_difference(table(2, 4, 7))
    with pytest.raises(ValueError, match="3 groups for 4 cases"):
        crossed_difference(table(2, 4, 7), list("abc"))
    for several in ([], [one, crossed_difference(table(2, 4, 7), confidence=0.9)], [mean_difference([one, one])]):
        with pytest.raises(ValueError, match="a mean"):
            mean_difference(several)


def test_the_crossed_bootstrap_draws_both():
    """Variance of the pigeonhole bootstrap of a large full table: that of seeds, of groups, and three times that of the rest."""
    d = table(40, 60, 8, rest=0.0)
    low, high = crossed_bootstrap(d)
    variance = d.mean(1).var() / 40 + d.mean(0).var() / 60
    assert high - low == pytest.approx(2 * 1.96 * math.sqrt(variance), rel=0.06)
    assert crossed_bootstrap(d) == (low, high)
    groups = list(np.repeat(np.arange(6), 10))
    assert np.diff(crossed_bootstrap(d * 0 + np.repeat(np.arange(6.0), 10), groups)) > 1


def coverage(interval, seeds, ratio, part, tables=1500):
    """How often the interval holds 0: the standard deviation of trainings is ``ratio`` times the standard error over cases."""
    groups = 60 if part == 1 else 150
    held = 0
    for number in range(tables):
        low, high = interval(table(seeds, groups, number, training=ratio / math.sqrt(part * groups), part=part))
        held += low <= 0 <= high
    return held / tables


@pytest.mark.slow
@pytest.mark.parametrize("part", [1.0, 0.2])
@pytest.mark.parametrize("ratio", [0.0, 1.0, 3.0])
@pytest.mark.parametrize("seeds", [3, 5, 8])
def test_intervals_hold_the_truth_with_few_seeds(seeds, ratio, part):
    assert coverage(lambda d: crossed_difference(d).interval, seeds, ratio, part) >= 0.92


def folds_table(seeds, folds, groups, seed, ratio):
    """Every seed deals the groups to its folds, each a training of its own."""
    full = table(seeds * folds, groups, seed, training=ratio / math.sqrt(groups / folds))
    rng = np.random.default_rng(seed + 10**6)
    for first in range(0, seeds * folds, folds):
        fold_of = rng.permutation(np.arange(groups) % folds)
        for fold in range(folds):
            full[first + fold, fold_of != fold] = np.nan
    return full


@pytest.mark.slow
@pytest.mark.parametrize("ratio", [0.0, 1.0, 3.0])
@pytest.mark.parametrize("seeds", [1, 2, 3])
def test_intervals_hold_the_truth_with_five_folds_of_few_seeds(seeds, ratio):
    found = [crossed_difference(folds_table(seeds, 5, 60, number, ratio)).interval for number in range(1500)]
    assert np.mean([low <= 0 <= high for low, high in found]) >= 0.93


@pytest.mark.slow
def test_the_crossed_bootstrap_is_too_narrow_for_three_seeds():
    assert coverage(lambda d: crossed_bootstrap(d, resamples=400), 3, 3.0, 1.0, tables=1500) < 0.9
