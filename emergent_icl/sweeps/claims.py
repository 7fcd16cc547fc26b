"""The checks of falsifiable claims.

Statistics over seeds decide each check: it holds, fails, or is undecided. `verdicts.py` combines
them into a verdict. A bound is met if the whole 95% interval lies beyond it. The claim that
something stays the same has two bounds, an equivalence margin that must contain the interval.
"""

import dataclasses
import math
from typing import ClassVar

import numpy as np

from emergent_icl.evaluation.measures import is_accuracy
from emergent_icl.sweeps import statistics
from emergent_icl.sweeps.evidence import Evidence
from emergent_icl.sweeps.statistics import LEVEL, Correlation, Estimate
from emergent_icl.sweeps.verdicts import (
    ALPHA,
    BEST_FIRST,
    Check,
    CheckResult,
    Decision,
    Number,
    Range,
    Rule,
    interval_numbers,
)  # fmt: skip
from emergent_icl.sweeps.verdicts import Claim as Claim


@dataclasses.dataclass(frozen=True)
class Difference(Check):
    """The mean at `high` minus the mean at `low` lies between `more_than` and `less_than`.

    The whole 95% interval must. If replicates have their own sequences and both conditions have the
    same replicates, evaluations are compared in pairs; losses never are. Raises ValueError for an
    empty range, or equal conditions.
    """

    measure: str
    high: str
    low: str
    more_than: float = 0.0
    less_than: float = math.inf

    def __post_init__(self) -> None:
        Range(self.more_than, self.less_than).require(self, "more_than", "less_than")
        if self.high == self.low:
            raise ValueError(f"Difference: high and low must be two conditions, not {self.low!r}")

    def text(self) -> str:
        """See Check."""
        return f"{self._what()} is {Range(self.more_than, self.less_than)} (95 % interval)"

    def _what(self) -> str:
        return f"{self.measure}: mean at {self.high} minus mean at {self.low}"

    def read_by(self, rule: Rule) -> Check:
        """See Check."""
        # Claims of the older rule have no upper bound.
        is_point = rule == "point" and self.less_than == math.inf
        return _PointDifference(**vars(self)) if is_point else self

    def judge(self, evidence: Evidence) -> CheckResult:
        """See Check."""
        found, means = self._compare(evidence)
        return Range(self.more_than, self.less_than).judge("difference", found, **means)

    def _compare(self, evidence: Evidence) -> tuple[Estimate, dict[str, Number]]:
        """The difference and both means."""
        high, low = (evidence.sample(one, self.measure) for one in (self.high, self.low))
        # Seeds are in increasing order, so equal seeds are the same replicates.
        paired = not high.is_shared and len(high.seeds) > 0 and high.seeds == low.seeds
        means = {self.high: np.mean(high.values), self.low: np.mean(low.values)}
        return (
            statistics.difference_estimate(high, low, paired=paired),
            {f"mean at {name}": float(mean) for name, mean in means.items()},
        )


class _PointDifference(Difference):
    """The mean difference exceeds `more_than`, and an exact test shows that it exceeds 0."""

    def text(self) -> str:
        """See Check."""
        return (
            f"{self._what()} is more than {self.more_than:g}, exact permutation p of one above 0 "
            f"< {ALPHA:g}"
        )

    def judge(self, evidence: Evidence) -> CheckResult:
        """See Check."""
        high, low = (evidence.sample(one, self.measure).values for one in (self.high, self.low))
        (found, means), p = self._compare(evidence), statistics.permutation_p(high, low)
        numbers = {**means, **interval_numbers("difference", found.interval()), "p": p}
        if found.interval().high <= self.more_than:
            return CheckResult("fails", numbers)
        if not found.mean > self.more_than:  # NaN decides nothing.
            return CheckResult("undecided", numbers)
        if p < ALPHA:
            return CheckResult("holds", numbers)
        least = 1 / math.comb(len(high) + len(low), len(low))
        few = f"with {len(high)} and {len(low)} runs p is at least {least:.2g}"
        return CheckResult("undecided", numbers, few if least >= ALPHA else "")


@dataclasses.dataclass(frozen=True)
class Trend(Check):
    """Spearman's rank correlation of the conditions' values with a measure, over all runs.

    Ranks ignore shared evaluation sequences. If runs share them, p is at least that of a slope of
    the means, whose error includes the sampling error.
    """

    measure: str
    rising: bool
    needs_all: ClassVar[bool] = True
    needs_values: ClassVar[bool] = True

    def text(self) -> str:
        """See Check."""
        sign = "> 0" if self.rising else "< 0"
        return f"{self.measure}: Spearman's rho with the axis over all runs {sign}, p < {ALPHA:g}"

    def judge(self, evidence: Evidence) -> CheckResult:
        """See Check."""
        found = self._correlation(evidence, self.rising)
        if found.p < ALPHA:
            return CheckResult("holds", found._asdict())
        is_against = self._correlation(evidence, not self.rising).p < ALPHA
        return CheckResult("fails" if is_against else "undecided", found._asdict())

    def _correlation(self, evidence: Evidence, rising: bool) -> Correlation:
        places = list(evidence.values.values())
        samples = [evidence.sample(name, self.measure) for name in evidence.values]
        x = np.repeat(places, [len(one.values) for one in samples])
        y = np.concatenate([one.values for one in samples])
        found = statistics.spearman(x, y, rising=rising)
        if not any(one.is_shared for one in samples):
            return found
        slope = statistics.slope_estimate(places, samples)
        return found._replace(p=max(found.p, slope.p_above(0) if rising else slope.p_below(0)))


@dataclasses.dataclass(frozen=True)
class Within(Check):
    """The mean at a condition lies between two bounds: the whole 95% interval must.

    Raises ValueError for an empty range.
    """

    measure: str
    condition: str
    low: float = -math.inf
    high: float = math.inf

    def __post_init__(self) -> None:
        Range(self.low, self.high).require(self, "low", "high")

    def text(self) -> str:
        """See Check."""
        what = f"{self.measure}: mean at {self.condition}"
        return f"{what} is {Range(self.low, self.high)} (95 % interval)"

    def judge(self, evidence: Evidence) -> CheckResult:
        """See Check."""
        found = statistics.mean_estimate(evidence.sample(self.condition, self.measure))
        return Range(self.low, self.high).judge("mean", found)


@dataclasses.dataclass(frozen=True)
class AboveConstant(Check):
    """The mean of an accuracy exceeds that of the best constant answer by more than `by`.

    If queries are skewed, always predicting the most frequent label scores high. Raises ValueError
    if the measure is not an accuracy, or `by` not a finite number.
    """

    measure: str
    condition: str
    by: float

    def __post_init__(self) -> None:
        if not is_accuracy(self.measure):
            raise ValueError(f"AboveConstant: measure = {self.measure!r} must be an accuracy")
        _require_number(self, "by")

    def text(self) -> str:
        """See Check."""
        return (
            f"{self.measure}: mean at {self.condition} is more than {self.by:g} above that of the "
            "best constant answer (95 % interval)"
        )

    def judge(self, evidence: Evidence) -> CheckResult:
        """See Check."""
        found = statistics.mean_estimate(evidence.sample(self.condition, self.measure))
        constant = evidence.constants.get(self.condition, {}).get(self.measure)
        if constant is None:
            numbers = interval_numbers("mean", found.interval())
            return CheckResult("undecided", numbers, "the best constant answer is not known")
        about = {"best constant answer": constant}
        return Range(constant + self.by).judge("mean", found, **about)


@dataclasses.dataclass(frozen=True)
class Coexistence(Check):
    """At some condition, several measures all exceed a bound in the same model.

    Decided by the lowest measure of each run: its mean over seeds must be above the bound at some
    condition, and below it at `not_at`. Intervals are widened for the number of conditions to
    choose from (Bonferroni); the best condition is the one with the highest lower limit. Raises
    ValueError without measures, or if the bound is not a finite number.
    """

    together: tuple[str, ...]
    above: float
    not_at: str
    needs_all: ClassVar[bool] = True

    def __post_init__(self) -> None:
        _require_number(self, "above")
        if not self.together:
            raise ValueError("Coexistence: together = () must name at least one measure")

    def text(self) -> str:
        """See Check."""
        what = " and ".join(self.together)
        return (
            f"{what} of the same model are above {self.above:g} at some condition, and not at "
            f"{self.not_at} (95 % interval of the lesser one, widened by the number of conditions)"
        )

    def judge(self, evidence: Evidence) -> CheckResult:
        """See Check."""
        lesser = {name: self._lesser(evidence, name) for name in evidence.runs}
        missing = lesser.pop(self.not_at)
        if not lesser:
            return CheckResult("undecided", {}, f"there is no condition but {self.not_at}")
        level = 1 - (1 - LEVEL) / len(lesser)
        elsewhere = {name: one.interval(level) for name, one in lesser.items()}
        best = max(elsewhere, key=lambda name: (elsewhere[name].low, elsewhere[name].mean))
        above, below = Range(low=self.above), Range(high=self.above)
        is_above: list[Decision] = [above.decide(one) for one in elsewhere.values()]
        is_below = below.decide(missing.interval())
        outcome = max(min(is_above, key=BEST_FIRST), is_below, key=BEST_FIRST)
        least = min(map(above.p, lesser.values()))
        numbers = {
            "best condition": best,
            **interval_numbers("lesser measure there", elsewhere[best], level),
            **interval_numbers(f"lesser measure at {self.not_at}", missing.interval()),
            "p": max(min(len(lesser) * least, 1.0), below.p(missing)),
        }
        return CheckResult(outcome, numbers)

    def _lesser(self, evidence: Evidence, condition: str) -> Estimate:
        samples = [evidence.sample(condition, one) for one in self.together]
        values = np.min([one.values for one in samples], axis=0)
        fewest = min(samples, key=lambda one: one.num_sequences)
        return statistics.mean_estimate(fewest._replace(values=values))


@dataclasses.dataclass(frozen=True)
class Fades(Check):
    """A measure ends more than `by` below its peak within runs, on average.

    A run's peak is its value at the step at which the mean of the *other* runs is highest. The
    maximum of its own noisy curve would exceed its end even without fading. Because runs choose
    each other's step, their drops are not independent: the standard error is at least that of
    resampling whole runs. Fewer than three runs decide nothing. Raises ValueError if `by` is not a
    finite number.
    """

    measure: str
    condition: str
    by: float

    def __post_init__(self) -> None:
        _require_number(self, "by")

    def text(self) -> str:
        """See Check."""
        return (
            f"{self.measure}: at {self.condition} it ends by more than {self.by:g} below its "
            f"height, at the step that the other runs tell (mean over runs, 95 % interval)"
        )

    def judge(self, evidence: Evidence) -> CheckResult:
        """See Check."""
        by_step = [run.curves[self.measure] for run in evidence.runs[self.condition]]
        # Extended runs have further points.
        steps = sorted(set(by_step[0]).intersection(*by_step))
        curves = np.array([[own[step] for step in steps] for own in by_step])
        peaks, ends = _peaks(curves, np.ones((1, len(curves))))[0], curves[:, -1]
        sample = evidence.sample(self.condition, self.measure)
        of_both = (sample._replace(values=values) for values in (peaks, ends))
        drop = statistics.difference_estimate(*of_both, paired=True)

        def resampled(weights_BR: np.ndarray) -> np.ndarray:
            return np.average(_peaks(curves, weights_BR) - ends, axis=1, weights=weights_BR)

        error = max(drop.error, statistics.bootstrap_error(resampled, len(curves)))
        means = {"mean height": float(np.mean(peaks)), "mean at the end": float(np.mean(ends))}
        return Range(self.by).judge("drop", drop._replace(error=error), **means)


def _require_number(check: Check, field: str) -> None:
    if not math.isfinite(value := getattr(check, field)):
        raise ValueError(f"{type(check).__name__}: {field} = {value} must be a finite number")


def _peaks(curves_RT: np.ndarray, weights_BR: np.ndarray) -> np.ndarray:
    """Each run's value where the sum of the other runs, each counted so often, is highest."""
    if len(curves_RT) == 1:  # A single run has no others; it decides nothing.
        return curves_RT.max(axis=1)[None]
    others_BRT = (weights_BR @ curves_RT)[:, None] - weights_BR[..., None] * curves_RT
    # Accuracies often tie; rounding errors, which depend on the processor, must not decide.
    return curves_RT[np.arange(len(curves_RT)), others_BRT.round(9).argmax(axis=2)]
