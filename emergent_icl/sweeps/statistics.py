"""Statistics of verdicts: means over seeds, differences, trends, and their uncertainty."""

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy import optimize, special, stats

from emergent_icl.evaluation.metrics import Z_95, Interval

Numbers = Sequence[float] | np.ndarray
# Up to this number, all regroupings are evaluated; otherwise, this many, drawn with a fixed seed.
MOST_REGROUPINGS = 20_000
# Of runs with replacement; so many are evaluated at a time.
RESAMPLES, AT_A_TIME = 2_000, 100
LEVEL = 0.95
# Values that differ by less are equal: sums of proportions have rounding errors.
ROUNDING = 1e-9
# The smallest p that is computed.
LEAST_TAIL = 1e-12


class Sample(NamedTuple):
    """Values of a measure in at least one independent run of a condition."""

    values: Sequence[float]  # One per run.
    seeds: Sequence[int] = ()  # Seeds of each run's evaluation sequences, if any.
    num_sequences: int = 0  # Per run, if values are proportions of them; otherwise 0.

    @property
    def is_shared(self) -> bool:
        """Whether several runs were evaluated on the same sequences."""
        return len(set(self.seeds)) < len(self.seeds)


class Estimate(NamedTuple):
    """An estimated mean or difference of means, with its standard error."""

    mean: float
    error: float  # Standard error from the spread of runs; infinite if unknown.
    df: float  # Degrees of freedom of `error`.
    sampling: float = 0.0  # Standard error from sequences, if not part of the spread.

    def interval(self, level: float = LEVEL) -> Interval:
        """The t interval of the spread and the normal interval of sampling, added in quadrature.

        Pooling the errors would add degrees of freedom, and a larger error could narrow it.
        """
        half = self._half((1 - level) / 2)
        return Interval(self.mean, self.mean - half, self.mean + half)

    def p_above(self, bound: float) -> float:
        """One-sided p of a mean above a bound; < 0.025 if the 95% interval lies above it."""
        return self._tail(self.mean - bound)

    def p_below(self, bound: float) -> float:
        """One-sided p of a mean below a bound."""
        return self._tail(bound - self.mean)

    def _half(self, tail: float) -> float:
        by_spread = special.stdtrit(self.df, tail) * self.error if self.error else 0.0
        return math.hypot(by_spread, special.ndtri(tail) * self.sampling)

    def _tail(self, distance: float) -> float:
        """The tail probability at which the interval just reaches this far."""
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
    """The mean over runs and sequences; its error accounts for both.

    If runs have their own sequences, their spread includes the sampling error. If they share them,
    the binomial variance of an accuracy on that many sequences is added: exact for answers that
    the sequences determine, too large for guesses, never too small. If runs are equal, the error is
    the binomial error of all their sequences.
    """
    share = _away_from_ends(sample)
    return _over_runs(sample.values, sample, share * (1 - share))


def difference_estimate(high: Sample, low: Sample, *, paired: bool = False) -> Estimate:
    """Mean of `high` minus mean of `low`, with an error as in `mean_estimate`.

    If paired, run i of both is the same replicate, and common effects cancel. Otherwise, runs are
    independent (Welch). If both are accuracies on the same sequences, the binomial part is the
    largest possible for two such accuracies.
    """
    p, q = _away_from_ends(high), _away_from_ends(low)
    # Variance of the difference of two answers to one sequence that agree as rarely as possible.
    binomial = min(p + q, 2 - p - q) - (p - q) ** 2
    fewest = min(high, low, key=_counted)
    if paired:
        return _over_runs(np.subtract(high.values, low.values), fewest, binomial)
    sides = (mean_estimate(high), mean_estimate(low))
    error, df = _welch(sides)
    sampling = math.hypot(*(one.sampling for one in sides))
    if high.is_shared or low.is_shared:
        sampling = math.sqrt(binomial / _counted(fewest))
    return _known(Estimate(sides[0].mean - sides[1].mean, error, df, sampling))


def slope_estimate(places: Sequence[float], samples: Sequence[Sample]) -> Estimate:
    """Sum of the means over runs, weighted by the centered ranks of their places.

    Errors from shared sequences are added linearly, the worst case.
    """
    weights = stats.rankdata(places) - (len(places) + 1) / 2
    parts = [
        Estimate(weight * one.mean, abs(weight) * one.error, one.df, abs(weight) * one.sampling)
        for weight, one in zip(weights, map(mean_estimate, samples), strict=True)
    ]
    slope, sampling = sum(one.mean for one in parts), sum(one.sampling for one in parts)
    return _known(Estimate(slope, *_welch(parts), sampling))


def _over_runs(values: Numbers, sample: Sample, binomial: float) -> Estimate:
    """The mean of independent runs, given the binomial variance of an answer to one sequence."""
    mean, count = float(np.mean(values)), len(values)
    if count < 2:
        return Estimate(mean, math.inf, 1.0)
    is_equal = np.ptp(values) < ROUNDING
    error = 0.0 if is_equal else float(np.std(values, ddof=1) / math.sqrt(count))
    adds = sample.is_shared or is_equal
    sampling = math.sqrt(binomial / _counted(sample)) if adds else 0.0
    return _known(Estimate(mean, error, count - 1.0, sampling))


def _welch(sides: Sequence[Estimate]) -> tuple[float, float]:
    """Standard error of a difference, with Satterthwaite's degrees of freedom."""
    total = sum(one.error**2 for one in sides)
    if not 0 < total < math.inf:
        return math.sqrt(total), 1.0
    return math.sqrt(total), 1 / sum((one.error**2 / total) ** 2 / one.df for one in sides)


def _known(estimate: Estimate) -> Estimate:
    """The estimate; its error is infinite if the number of sequences is unknown."""
    known = math.isfinite(estimate.sampling) and not math.isnan(estimate.error)
    return estimate if known else Estimate(estimate.mean, math.inf, 1.0)


def _counted(sample: Sample) -> float:
    """The number of independent sequences; NaN if unknown."""
    return sample.num_sequences * (1 if sample.is_shared else len(sample.values)) or math.nan


def _away_from_ends(sample: Sample) -> float:
    """A mean accuracy, shrunk toward 0.5 (Wilson; Agresti and Coull): never exactly 0 or 1."""
    pseudo, count = Z_95**2, _counted(sample)
    return float((np.mean(sample.values) * count + pseudo / 2) / (count + pseudo))


def bootstrap_error(statistic: Callable[[np.ndarray], np.ndarray], count: int) -> float:
    """Standard error of a statistic of runs that is not a mean of independent values.

    From RESAMPLES samples of the runs with replacement, drawn with a fixed seed. For the mean of
    five or more runs, it is about the usual standard error. Infinite for fewer than three runs.

    Args:
      statistic: how often each run counts, int [B, R] -> the statistic of each sample, [B]. At
        least two different runs count.
      count: number of runs, R.
    """
    if count < 3:
        return math.inf
    weights_BR = np.random.default_rng(0).multinomial(count, np.full(count, 1 / count), RESAMPLES)
    several = weights_BR[(weights_BR > 0).sum(axis=1) > 1]
    parts = [statistic(part) for part in np.array_split(several, RESAMPLES // AT_A_TIME)]
    found = np.std(np.concatenate(parts), ddof=1) * math.sqrt(count / (count - 1))
    return float(found) if found > ROUNDING else 0.0


def permutation_p(high: Numbers, low: Numbers) -> float:
    """One-sided p of mean(high) > mean(low) under regroupings of the runs.

    Exact up to MOST_REGROUPINGS (8 + 8 runs have 12,870). SciPy's test requires two runs per group,
    and its handling of ties depends on rounding.
    """
    pooled, size = np.array([*high, *low]), len(high)
    if math.comb(len(pooled), size) <= MOST_REGROUPINGS:
        groups = np.array(list(itertools.combinations(range(len(pooled)), size)))
    else:
        ranks = np.random.default_rng(0).random((MOST_REGROUPINGS, len(pooled)))
        # The observed grouping is included, so that p is never 0.
        groups = np.vstack([np.arange(size), ranks.argsort(axis=1)[:, :size]])
    # The difference of means increases with the sum of one group. Rounding makes ties equal.
    sums = np.round(pooled[groups].sum(axis=1), 9)
    return float(np.mean(sums >= np.round(pooled[:size].sum(), 9)))


class Correlation(NamedTuple):
    """Spearman's rank correlation, with a one-sided p of its sign."""

    rho: float
    p: float


def spearman(x: Numbers, y: Numbers, *, rising: bool) -> Correlation:
    """Rank correlation of conditions' values x with measured values y, over runs.

    p is one-sided for the claimed sign, from permutations drawn with a fixed seed. If x or y is
    constant, rho is 0 and p is 1.
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
    """Adjusts the p values of a family of claims to control the family-wise error rate.

    The smallest is multiplied by their number m, the next by m - 1, and so on (Holm 1979).
    """
    adjusted, so_far = {}, 0.0
    for rank, name in enumerate(sorted(ps, key=ps.__getitem__)):
        so_far = max(so_far, min((len(ps) - rank) * ps[name], 1.0))
        adjusted[name] = so_far
    return {name: adjusted[name] for name in ps}
