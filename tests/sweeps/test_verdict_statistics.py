"""Intervals, permutation test, and rank correlation against independent implementations."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from emergent_icl.sweeps.statistics import (
    Sample,
    difference_estimate,
    holm,
    mean_estimate,
    permutation_p,
    slope_estimate,
    spearman,
)

numbers = st.floats(0, 1).map(lambda x: round(x, 3))
samples = st.lists(numbers, min_size=1, max_size=5)


@settings(max_examples=40)
@given(samples, samples)
def test_permutation_p_counts_the_regroupings(high, low):
    pooled = np.array(high + low)
    observed = np.mean(high) - np.mean(low)
    picks = list(itertools.combinations(range(len(pooled)), len(high)))
    extreme = 0
    for pick in picks:
        chosen = np.isin(np.arange(len(pooled)), pick)
        extreme += pooled[chosen].mean() - pooled[~chosen].mean() >= observed - 1e-9
    assert permutation_p(high, low) == pytest.approx(extreme / len(picks))


def test_permutation_p_of_five_against_five_is_one_in_252():
    assert permutation_p([0.9, 0.8, 0.85, 0.7, 0.95], [0.5, 0.51, 0.49, 0.52, 0.48]) == 1 / 252
    assert permutation_p([0.5] * 3, [0.9] * 3) == 1.0
    assert permutation_p([0.9], [0.5]) == 0.5


def test_large_samples_use_random_regroupings_reproducibly():
    rng = np.random.default_rng(0)
    high, low = rng.normal(0.3, 1, 20), rng.normal(0, 1, 20)
    assert permutation_p(high, low) == permutation_p(high, low)
    welch = stats.ttest_ind(high, low, alternative="greater").pvalue
    assert permutation_p(high, low) == pytest.approx(welch, abs=0.02)


REPLICATES, SEQUENCES, TRIALS = 8, 500, 2_000


def accuracies(answerer, own):
    """Accuracies [trials, replicates] on two-way sequences; the true accuracy is 0.5.

    With `own`, each replicate has its own sequences. 'differing' answers like 'constant', with
    additional variation between replicates.
    """
    rng = np.random.default_rng(sum(answerer.encode()))

    def coins(replicates):
        return rng.integers(2, size=(TRIALS, replicates, SEQUENCES), dtype=np.int8)

    drawn = REPLICATES if own else 1
    queries, last_of_context = coins(drawn), coins(drawn)
    answers = {"copier": last_of_context, "coin": coins(REPLICATES)}.get(answerer, np.int8(0))
    values = np.broadcast_to((answers == queries).mean(axis=-1), (TRIALS, REPLICATES))
    return values + 0.02 * rng.standard_normal(values.shape) * (answerer == "differing")


def coverage(values, own, truth=0.5, estimate=mean_estimate):
    seeds = range(REPLICATES) if own else (0,) * REPLICATES
    found = [estimate(Sample(row, seeds, SEQUENCES)).interval() for row in values]
    return np.mean([one.low <= truth <= one.high for one in found])


@pytest.mark.parametrize("answerer", ["constant", "copier", "coin", "differing"])
def test_intervals_have_the_nominal_coverage(answerer):
    assert 0.93 <= coverage(accuracies(answerer, own=True), own=True) <= 0.97


@pytest.mark.parametrize("answerer", ["constant", "copier", "differing"])
def test_intervals_on_shared_sequences_have_the_nominal_coverage(answerer):
    values = accuracies(answerer, own=False)
    assert 0.93 <= coverage(values, own=False) <= 0.97
    if answerer == "differing":
        # From the spread between runs alone.
        assert coverage(values, own=True) < 0.75


def test_intervals_for_guesses_on_shared_sequences_are_conservative():
    assert coverage(accuracies("coin", own=False), own=False) > 0.97


@pytest.mark.parametrize("own", [True, False])
def test_intervals_of_differences_have_the_nominal_coverage(own):
    """Two constant answers to the same sequences: one is right where the other is wrong."""

    def difference(one):
        return difference_estimate(one, one._replace(values=1 - one.values), paired=own)

    values = accuracies("constant", own)
    assert 0.93 <= coverage(values, own, truth=0.0, estimate=difference) <= 0.97


def test_a_slope_from_sampling_error_alone_is_as_rare_as_p_says():
    """Two opposite constant answers: the worst case, whose errors have opposite signs."""

    def p(row):
        sides = [Sample(one, (0,) * REPLICATES, SEQUENCES) for one in (1 - row, row)]
        return slope_estimate([0.0, 1.0], sides).p_above(0)

    found = np.array([p(row) for row in accuracies("constant", own=False)[:1000]])
    for level in (0.05, 0.2):
        assert np.mean(found < level) == pytest.approx(level, abs=0.03)


def test_additional_error_never_narrows_an_interval():
    values = [0.5, 0.52, 0.47, 0.61]
    own = mean_estimate(Sample(values, range(4), 1000)).interval()
    shared = mean_estimate(Sample(values, (0,) * 4, 1000)).interval()
    assert shared.low < own.low < own.high < shared.high


@settings(max_examples=40)
@given(samples, numbers, st.booleans())
def test_p_is_the_level_at_which_the_interval_reaches_the_bound(values, bound, shared):
    seeds = [0 if shared else i for i in range(len(values))]
    found = mean_estimate(Sample(values, seeds, 500))
    p = found.p_above(bound)
    assert p + found.p_below(bound) == pytest.approx(1)
    if 1e-9 < p < 0.5 and len(values) > 1:
        assert found.interval(1 - 2 * p).low == pytest.approx(bound, abs=1e-6)


def test_the_error_of_a_single_run_is_unknown():
    assert mean_estimate(Sample([0.7])).interval() == (0.7, -math.inf, math.inf)
    found = difference_estimate(Sample([0.7]), Sample([0.5, 0.4]))
    assert found.interval()[1:] == (-math.inf, math.inf)
    assert found.p_above(0.0) == 0.5


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_equal_runs_have_the_sampling_error_of_all_their_sequences(share):
    found = mean_estimate(Sample([share] * 4, range(4), 250)).interval()
    wilson = stats.binomtest(int(1000 * share), 1000).proportion_ci(method="wilson")
    assert found.high - found.low > 0
    # Wilson's is not symmetric at the ends.
    assert (found.low, found.high) == pytest.approx((wilson.low, wilson.high), abs=3e-3)
    # The variance of anything but a proportion is unknown.
    assert mean_estimate(Sample([2.5] * 4)).interval()[1:] == (-math.inf, math.inf)


@settings(max_examples=40)
@given(samples, samples)
def test_a_difference_changes_sign_when_its_sides_are_swapped(high, low):
    one, other = Sample(high, range(len(high)), 100), Sample(low, range(len(low)), 100)
    found = difference_estimate(one, other).interval()
    turned = difference_estimate(other, one).interval()
    assert found.mean == pytest.approx(np.mean(high) - np.mean(low))
    assert found.low <= found.mean <= found.high
    assert (found.low, found.high) == pytest.approx((-turned.high, -turned.low))


def test_a_difference_of_independent_runs_matches_welchs_test():
    rng = np.random.default_rng(3)
    for sizes in ((5, 5), (3, 7), (2, 4)):
        high, low = rng.normal(0.8, 0.1, sizes[0]), rng.normal(0.5, 0.02, sizes[1])
        welch = stats.ttest_ind(high, low, equal_var=False, alternative="greater")
        both_sides = stats.ttest_ind(high, low, equal_var=False).confidence_interval(0.95)
        found = difference_estimate(Sample(high), Sample(low))
        assert found.interval()[1:] == pytest.approx((both_sides.low, both_sides.high))
        assert found.p_above(0.0) == pytest.approx(welch.pvalue)


def test_holm_multiplies_by_the_number_of_remaining_claims():
    assert holm({"a": 0.01, "b": 0.04, "c": 0.03, "d": 0.9}) == pytest.approx(
        {"a": 0.04, "b": 0.09, "c": 0.09, "d": 0.9}
    )
    assert holm({}) == {}


@settings(max_examples=25)
@given(st.lists(st.tuples(st.sampled_from((0.0, 0.5, 0.9, 1.0)), numbers), min_size=6, max_size=20))
def test_rho_matches_scipy(pairs):
    x, y = zip(*pairs, strict=True)
    found = spearman(x, y, rising=True)
    if len(set(x)) < 2 or len(set(y)) < 2:
        assert found == (0.0, 1.0)
    else:
        assert found.rho == pytest.approx(stats.spearmanr(x, y).statistic)
        assert spearman(x, y, rising=False).rho == pytest.approx(found.rho)


def test_trend_p_is_small_for_a_trend_and_uniform_without_one():
    x = [0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert spearman(x, x, rising=True).p < 0.001
    assert spearman(x, x, rising=False).p > 0.99
    rng = np.random.default_rng(2)
    few = [spearman(x, rng.random(9), rising=True).p < 0.2 for _ in range(60)]
    assert 0.05 < np.mean(few) < 0.4
