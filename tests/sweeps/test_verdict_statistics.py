"""Intervals, the exact permutation test and the rank correlation, against other ways to them."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from emergent_icl.sweeps.statistics import (
    difference_interval,
    mean_interval,
    permutation_p,
    spearman,
)

numbers = st.floats(0, 1).map(lambda x: round(x, 3))
samples = st.lists(numbers, min_size=1, max_size=5)


@settings(max_examples=40, deadline=None)
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


def test_large_samples_are_regrouped_by_chance_and_repeat():
    rng = np.random.default_rng(0)
    high, low = rng.normal(0.3, 1, 20), rng.normal(0, 1, 20)
    assert permutation_p(high, low) == permutation_p(high, low)
    welch = stats.ttest_ind(high, low, alternative="greater").pvalue
    assert permutation_p(high, low) == pytest.approx(welch, abs=0.02)


def test_mean_interval_covers_the_truth_as_often_as_it_says():
    rng = np.random.default_rng(1)
    hits = 0
    for values in rng.normal(0.7, 0.1, (2000, 5)):
        interval = mean_interval(values)
        assert interval.low < interval.mean < interval.high
        hits += interval.low < 0.7 < interval.high
    assert hits / 2000 == pytest.approx(0.95, abs=0.015)


def test_nothing_is_known_of_a_single_run():
    assert mean_interval([0.7]) == (0.7, -math.inf, math.inf)
    assert difference_interval([0.7], [0.5, 0.4])[1:] == (-math.inf, math.inf)


@settings(max_examples=40, deadline=None)
@given(samples, samples)
def test_difference_interval_turns_around(high, low):
    found, turned = difference_interval(high, low), difference_interval(low, high)
    assert found.mean == pytest.approx(np.mean(high) - np.mean(low))
    assert found.low <= found.mean <= found.high
    assert (found.low, found.high) == pytest.approx((-turned.high, -turned.low))


def test_difference_interval_is_welchs():
    rng = np.random.default_rng(3)
    for sizes in ((5, 5), (3, 7), (2, 4)):
        high, low = rng.normal(0.8, 0.1, sizes[0]), rng.normal(0.5, 0.02, sizes[1])
        welch = stats.ttest_ind(high, low, equal_var=False).confidence_interval(0.95)
        assert difference_interval(high, low)[1:] == pytest.approx((welch.low, welch.high))


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.sampled_from((0.0, 0.5, 0.9, 1.0)), numbers), min_size=6, max_size=20))
def test_rho_is_scipys(pairs):
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
