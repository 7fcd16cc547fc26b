"""The statistics of verdicts: means over seeds, differences, trends, and their uncertainty."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats

from emergent_icl.evaluation.metrics import Interval

# Regroupings are all tried up to this number, else as many are drawn, from a fixed seed.
MOST_REGROUPINGS = 20_000
LEVEL = 0.95


def mean_interval(values: Sequence[float], level: float = LEVEL) -> Interval:
    """Mean of independent runs, at least one, with its t interval; [-inf, inf] of a single one."""
    mean, count = float(np.mean(values)), len(values)
    if count < 2:
        return Interval(mean, -np.inf, np.inf)
    half = stats.t.ppf((1 + level) / 2, count - 1) * np.std(values, ddof=1) / np.sqrt(count)
    return Interval(mean, mean - half, mean + half)


def difference_interval(high: Sequence[float], low: Sequence[float]) -> Interval:
    """Mean of `high` minus mean of `low` with Welch's t interval; runs are independent."""
    difference = float(np.mean(high) - np.mean(low))
    if min(len(high), len(low)) < 2:
        return Interval(difference, -np.inf, np.inf)
    squares = [np.var(runs, ddof=1) / len(runs) for runs in (high, low)]
    if sum(squares) == 0:
        return Interval(difference, difference, difference)
    # Welch and Satterthwaite's degrees of freedom; by hand, since scipy warns of equal runs.
    shares = [
        (own / sum(squares)) ** 2 / (len(runs) - 1)
        for own, runs in zip(squares, (high, low), strict=True)
    ]
    half = float(stats.t.ppf((1 + LEVEL) / 2, 1 / sum(shares)) * np.sqrt(sum(squares)))
    return Interval(difference, difference - half, difference + half)


def permutation_p(high: Sequence[float], low: Sequence[float]) -> float:
    """One-sided p of mean(high) > mean(low) under regroupings of the runs.

    Exact where MOST_REGROUPINGS are all that there are (8 + 8 runs make 12,870); beyond, as many
    are drawn. By hand: SciPy's test wants two runs in each group, and tells ties by rounding.
    """
    pooled, size = np.array([*high, *low]), len(high)
    if math.comb(len(pooled), size) <= MOST_REGROUPINGS:
        groups = np.array(list(itertools.combinations(range(len(pooled)), size)))
    else:
        ranks = np.random.default_rng(0).random((MOST_REGROUPINGS, len(pooled)))
        # What was observed is one of them, so that p is never 0.
        groups = np.vstack([np.arange(size), ranks.argsort(axis=1)[:, :size]])
    # The difference of the means grows with the sum of one group. Rounded, equal sums tie.
    sums = np.round(pooled[groups].sum(axis=1), 9)
    return float(np.mean(sums >= np.round(pooled[:size].sum(), 9)))


class Correlation(NamedTuple):
    """Spearman's rank correlation with a one-sided p of its sign."""

    rho: float
    p: float


def spearman(x: Sequence[float], y: Sequence[float], *, rising: bool) -> Correlation:
    """Rank correlation over runs of their conditions' places, x, with what was measured, y.

    p is of the sign that is claimed, by regrouping, drawn from a fixed seed; rho is 0 and p is 1
    where x or y does not vary.
    """
    if len(set(x)) < 2 or len(set(y)) < 2:
        return Correlation(0.0, 1.0)
    ranks_x, ranks_y = stats.rankdata(x), stats.rankdata(y)

    def rho(other: np.ndarray, axis: int = -1) -> np.ndarray:
        own, centered = ranks_x - ranks_x.mean(), other - other.mean(axis=axis, keepdims=True)
        norms = np.linalg.norm(own) * np.linalg.norm(centered, axis=axis)
        return (own * centered).sum(axis=axis) / norms

    test = stats.permutation_test(
        (ranks_y,),
        rho,
        permutation_type="pairings",
        alternative="greater" if rising else "less",
        vectorized=True,
        n_resamples=MOST_REGROUPINGS,
        rng=np.random.default_rng(0),
    )
    return Correlation(float(test.statistic), float(test.pvalue))
