"""The statistics of verdicts: means over seeds, differences, trends, and their uncertainty."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from operator import attrgetter
from typing import Any, NamedTuple

import numpy as np
from scipy import optimize, special, stats

from emergent_icl.evaluation.metrics import Z_95, Interval

_Numbers = Sequence[float] | np.ndarray
# Regroupings are all tried up to this number, else as many are drawn, from a fixed seed.
MOST_REGROUPINGS = 20_000
LEVEL = 0.95
# Runs whose values are nearer than this are equal: sums of shares are rounded.
ROUNDING = 1e-9
# p is not told apart from 0 below it.
LEAST_TAIL = 1e-12


class Sample(NamedTuple):
    """What independent runs of one condition measured, at least one.

    Attributes:
      values: of each run.
      seeds: of each run's evaluation sequences; () where none were drawn.
      num_sequences: how many, if the values are shares of them in [0, 1]; 0 if they are not.
    """

    values: Sequence[float]
    seeds: Sequence[int] = ()
    num_sequences: int = 0

    @property
    def is_shared(self) -> bool:
        """Whether several runs were evaluated on the same sequences."""
        return len(set(self.seeds)) < len(self.seeds)


class Estimate(NamedTuple):
    """An estimated mean, and what is known of its error.

    Attributes:
      mean: of runs, or the difference of two.
      error: standard error by the spread of runs; infinite where it is not known.
      df: degrees of freedom of `error`.
      sampling: standard error that the sequences add, which the spread does not tell.
    """

    mean: float
    error: float
    df: float
    sampling: float = 0.0

    def interval(self, level: float = LEVEL) -> Interval:
        """What t leaves room for by the spread, and the normal law by sampling, in quadrature.

        So more error never makes a narrower interval, as more degrees of freedom would.
        """
        half = self._half((1 - level) / 2)
        return Interval(self.mean, self.mean - half, self.mean + half)

    def p_above(self, bound: float) -> float:
        """One-sided p of a mean above a bound; below .025 where the 95 % interval is above it."""
        return self._tail(self.mean - bound)

    def p_below(self, bound: float) -> float:
        """The same below it."""
        return self._tail(bound - self.mean)

    def _half(self, tail: float) -> float:
        by_spread = special.stdtrit(self.df, tail) * self.error if self.error else 0.0
        return math.hypot(by_spread, special.ndtri(tail) * self.sampling)

    def _tail(self, distance: float) -> float:
        """The tail whose interval just reaches as far."""
        if math.isnan(distance) or math.isinf(self.error):
            return math.nan if math.isnan(distance) else 0.5
        if self.sampling == 0:
            return float(special.stdtr(self.df, -distance / self.error))
        if self.error == 0:
            return float(special.ndtr(-distance / self.sampling))
        reach, tail = abs(distance), LEAST_TAIL
        if self._half(tail) > reach:
            least, most = math.log(tail), math.log(0.5)
            root: Any = optimize.brentq(lambda x: self._half(math.exp(x)) - reach, least, most)
            tail = math.exp(root)
        return tail if distance > 0 else 1 - tail


def mean_estimate(sample: Sample) -> Estimate:
    """Mean over runs and over sequences; its error counts everything that was drawn.

    The spread of runs with sequences of their own contains the error of these. Where runs share
    them, the binomial variance of an accuracy on that many sequences is added: right for answers
    that the sequences determine, too wide for coins, never too narrow. Runs that are equal are not
    certain: the error is the binomial one of all of their sequences.
    """
    share = _away_from_ends(sample)
    return _over_runs(sample.values, sample, share * (1 - share))


def difference_estimate(high: Sample, low: Sample, *, paired: bool = False) -> Estimate:
    """Mean of `high` minus mean of `low`, with an error as in `mean_estimate`.

    Paired, run i of both is the same replicate: what it brings to both cancels. Otherwise runs are
    independent (Welch). Where both accuracies are of the same sequences, the binomial part is the
    largest that two answerers with such accuracies can have.
    """
    of_both = _greatest_binomial(_away_from_ends(high), _away_from_ends(low))
    fewest = min(high, low, key=_counted)
    if paired:
        return _over_runs(np.subtract(high.values, low.values), fewest, of_both)
    sides = (mean_estimate(high), mean_estimate(low))
    error, df = _welch(sides)
    sampling = math.hypot(*(one.sampling for one in sides))
    if high.is_shared or low.is_shared:
        sampling = math.sqrt(of_both / _counted(fewest))
    return _known(Estimate(sides[0].mean - sides[1].mean, error, df, sampling))


def slope_estimate(places: Sequence[float], samples: Sequence[Sample]) -> Estimate:
    """How means over runs rise with the ranks of their places: their sum, weighted by these.

    The ranks are centered. Errors by shared sequences are added up as if they all pointed one way.
    """
    weights = stats.rankdata(places) - (len(places) + 1) / 2
    parts = [
        Estimate(weight * one.mean, abs(weight) * one.error, one.df, abs(weight) * one.sampling)
        for weight, one in zip(weights, map(mean_estimate, samples), strict=True)
    ]
    slope, sampling = (sum(map(attrgetter(name), parts)) for name in ("mean", "sampling"))
    return _known(Estimate(slope, *_welch(parts), sampling))


def _over_runs(values: _Numbers, sample: Sample, binomial: float) -> Estimate:
    """Of independent runs, given the variance of one sequence's answer."""
    mean, count = float(np.mean(values)), len(values)
    if count < 2:
        return Estimate(mean, math.inf, 1.0)
    is_equal = np.ptp(values) < ROUNDING
    error = 0.0 if is_equal else float(np.std(values, ddof=1) / math.sqrt(count))
    adds = sample.is_shared or is_equal
    sampling = math.sqrt(binomial / _counted(sample)) if adds else 0.0
    return _known(Estimate(mean, error, count - 1.0, sampling))


def _welch(sides: Sequence[Estimate]) -> tuple[float, float]:
    """Standard error of a difference by spreads, with Satterthwaite's degrees of freedom."""
    total = sum(one.error**2 for one in sides)
    if not 0 < total < math.inf:
        return math.sqrt(total), 1.0
    return math.sqrt(total), 1 / sum((one.error**2 / total) ** 2 / one.df for one in sides)


def _known(estimate: Estimate) -> Estimate:
    """The same; the error is infinite where it is not known how many sequences there were."""
    known = math.isfinite(estimate.sampling) and not math.isnan(estimate.error)
    return estimate if known else Estimate(estimate.mean, math.inf, 1.0)


def _counted(sample: Sample) -> float:
    """Sequences that were drawn independently of each other."""
    return sample.num_sequences * (1 if sample.is_shared else len(sample.values)) or math.nan


def _away_from_ends(sample: Sample) -> float:
    """A mean accuracy as Wilson and Agresti move it: none is surely 0 or 1."""
    pseudo = Z_95**2
    count = _counted(sample)
    return float((np.mean(sample.values) * count + pseudo / 2) / (count + pseudo))


def _greatest_binomial(high: float, low: float) -> float:
    """Variance of the difference of two answers to one sequence, as little alike as may be."""
    return min(high + low, 2 - high - low) - (high - low) ** 2


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


def spearman(
    x: Sequence[float] | np.ndarray, y: Sequence[float] | np.ndarray, *, rising: bool
) -> Correlation:
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


def holm(ps: Mapping[str, float]) -> dict[str, float]:
    """P values of a family of claims, adjusted so that any false one is found as rarely as one.

    The least is multiplied by their number m, the next by m - 1 and so on (Holm 1979).
    """
    adjusted, so_far = {}, 0.0
    for rank, name in enumerate(sorted(ps, key=ps.__getitem__)):
        so_far = max(so_far, min((len(ps) - rank) * ps[name], 1.0))
        adjusted[name] = so_far
    return {name: adjusted[name] for name in ps}
