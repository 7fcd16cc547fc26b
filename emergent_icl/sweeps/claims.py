"""Claims that can fail: a sentence, and the checks that it is made of.

Each check is decided by statistics over seeds: it holds, fails, or is undecided, where what was
measured neither bears it out nor rules it out. `verdicts.py` makes a verdict of them.

A bound is passed where all of the 95 % interval lies beyond it. A claim that something "stays"
needs two bounds, an equivalence margin with all of the interval inside.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any, ClassVar

import numpy as np

from emergent_icl.sweeps.checks import (
    ALPHA,
    BEST_FIRST,
    Check,
    CheckResult,
    Decision,
    Number,
    Rule,
    decide,
    interval_numbers,
    judged,
    p_within,
    range_text,
    require_range,
)
from emergent_icl.sweeps.measures import Evidence, is_accuracy
from emergent_icl.sweeps.statistics import (
    LEVEL,
    Correlation,
    Estimate,
    Sample,
    difference_estimate,
    mean_estimate,
    permutation_p,
    slope_estimate,
    spearman,
)


@dataclasses.dataclass(frozen=True)
class Difference(Check):
    """The mean at `high` minus that at `low` lies between `more_than` and `less_than`.

    All of its 95 % interval does. Replicates with sequences of their own are compared one by one
    where both conditions have the same. Raises ValueError for bounds with nothing between them.
    """

    measure: str
    high: str
    low: str
    more_than: float = 0.0
    less_than: float = math.inf

    def __post_init__(self) -> None:
        """Checks the bounds."""
        require_range(self, "more_than", "less_than")

    def text(self) -> str:
        """See Check."""
        return f"{self._what()} is {range_text(self.more_than, self.less_than)} (95 % interval)"

    def _what(self) -> str:
        return f"{self.measure}: mean at {self.high} minus mean at {self.low}"

    def read_by(self, rule: Rule) -> Check:
        """See Check."""
        # The older rule knows no second bound.
        is_point = rule == "point" and self.less_than == math.inf
        return _PointDifference(**vars(self)) if is_point else self

    def judge(self, evidence: Evidence) -> CheckResult:
        """See Check."""
        found, means = self._compare(evidence)
        return judged("difference", found, self.more_than, self.less_than, means)

    def _compare(self, evidence: Evidence) -> tuple[Estimate, dict[str, Number]]:
        """The difference, and both means."""
        high, low = (evidence.sample(one, self.measure) for one in (self.high, self.low))
        # The same sequences, each run its own: the same replicates, which are in order of seeds.
        paired = not high.is_shared and len(high.seeds) > 0 and high.seeds == low.seeds
        found = difference_estimate(high, low, paired=paired)
        sides = {self.high: high.values, self.low: low.values}
        return found, {f"mean at {one}": float(np.mean(runs)) for one, runs in sides.items()}


class _PointDifference(Difference):
    """The mean difference exceeds `more_than`, and surely something.

    The exact p is of a difference above zero; how sure the bound is, the interval tells.
    """

    def text(self) -> str:
        """See Check."""
        return (
            f"{self._what()} is more than {self.more_than:g}, exact permutation p of one above 0 "
            f"< {ALPHA:g}"
        )

    def judge(self, evidence: Evidence) -> CheckResult:
        """See Check."""
        high = evidence.final(self.high, self.measure)
        low = evidence.final(self.low, self.measure)
        (found, means), p = self._compare(evidence), permutation_p(high, low)
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

    Ranks do not know that runs share evaluation sequences. Where they do, p is not less than that
    of a rise in the means whose error counts the sequences.
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
        places: list[Any] = list(evidence.values.values())  # numbers: `needs_values`
        samples = [evidence.sample(name, self.measure) for name in evidence.values]
        x = np.repeat(places, [len(one.values) for one in samples])
        y = np.concatenate([one.values for one in samples])
        slope = slope_estimate(places, samples)

        def correlation(rising: bool) -> Correlation:
            found = spearman(x, y, rising=rising)
            if not any(one.is_shared for one in samples):
                return found
            return found._replace(p=max(found.p, slope.p_above(0) if rising else slope.p_below(0)))

        found = correlation(self.rising)
        if found.p < ALPHA:
            return CheckResult("holds", found._asdict())
        is_against = correlation(not self.rising).p < ALPHA
        return CheckResult("fails" if is_against else "undecided", found._asdict())


@dataclasses.dataclass(frozen=True)
class Within(Check):
    """The mean at a condition lies between two bounds: all of its 95 % interval does.

    Raises ValueError for bounds with nothing between them.
    """

    measure: str
    condition: str
    low: float = -math.inf
    high: float = math.inf

    def __post_init__(self) -> None:
        """Checks the bounds."""
        require_range(self, "low", "high")

    def text(self) -> str:
        """See Check."""
        what = f"{self.measure}: mean at {self.condition}"
        return f"{what} is {range_text(self.low, self.high)} (95 % interval)"

    def judge(self, evidence: Evidence) -> CheckResult:
        """See Check."""
        found = mean_estimate(evidence.sample(self.condition, self.measure))
        return judged("mean", found, self.low, self.high, {})


@dataclasses.dataclass(frozen=True)
class AboveConstant(Check):
    """The mean of an accuracy is more than `by` above that of the best constant answer.

    Under a skewed distribution of queries, always answering the most frequent class scores high.
    Raises ValueError for a measure that is no accuracy.
    """

    measure: str
    condition: str
    by: float

    def __post_init__(self) -> None:
        """Checks the measure."""
        if not is_accuracy(self.measure):
            raise ValueError(f"AboveConstant: measure = {self.measure!r} must be an accuracy")

    def text(self) -> str:
        """See Check."""
        return (
            f"{self.measure}: mean at {self.condition} is more than {self.by:g} above that of the "
            "best constant answer (95 % interval)"
        )

    def judge(self, evidence: Evidence) -> CheckResult:
        """See Check."""
        found = mean_estimate(evidence.sample(self.condition, self.measure))
        constant = evidence.constants.get(self.condition, {}).get(self.measure)
        if constant is None:
            numbers = interval_numbers("mean", found.interval())
            return CheckResult("undecided", numbers, "the best constant answer is not known")
        about = {"best constant answer": constant}
        return judged("mean", found, constant + self.by, math.inf, about)


@dataclasses.dataclass(frozen=True)
class Coexistence(Check):
    """At some condition every one of some measures is above a bound in the same model.

    Decided by the least of the measures of each run: its mean over seeds is above the bound at
    some condition, and below it at the one that is named. The more conditions there are to
    choose from, the wider the interval that must clear the bound (Bonferroni). The best of
    them is the one whose interval begins highest.
    """

    together: tuple[str, ...]
    above: float
    not_at: str
    needs_all: ClassVar[bool] = True

    def text(self) -> str:
        """See Check."""
        what = " and ".join(self.together)
        return (
            f"{what} of the same model are above {self.above:g} at some condition, and not at "
            f"{self.not_at} (95 % interval of the lesser one, widened by the number of conditions)"
        )

    def judge(self, evidence: Evidence) -> CheckResult:
        """See Check."""
        lesser = {name: mean_estimate(self._lesser(evidence, name)) for name in evidence.runs}
        missing = lesser.pop(self.not_at)
        if not lesser:
            return CheckResult("undecided", {}, f"there is no condition but {self.not_at}")
        level = 1 - (1 - LEVEL) / len(lesser)
        elsewhere = {name: one.interval(level) for name, one in lesser.items()}
        best = max(elsewhere, key=lambda name: (elsewhere[name].low, elsewhere[name].mean))
        numbers = {
            "best condition": best,
            **interval_numbers("lesser measure there", elsewhere[best], level),
            **interval_numbers(f"lesser measure at {self.not_at}", missing.interval()),
        }
        least = min(p_within(one, self.above, math.inf) for one in lesser.values())
        is_above: list[Decision] = [decide(one, self.above, math.inf) for one in elsewhere.values()]
        is_missing = decide(missing.interval(), -math.inf, self.above)
        outcome = max(min(is_above, key=BEST_FIRST), is_missing, key=BEST_FIRST)
        p = max(min(len(lesser) * least, 1.0), p_within(missing, -math.inf, self.above))
        return CheckResult(outcome, numbers | {"p": p})

    def _lesser(self, evidence: Evidence, condition: str) -> Sample:
        """Of each run the least of the measures."""
        samples = [evidence.sample(condition, one) for one in self.together]
        values = np.min([one.values for one in samples], axis=0)
        return min(samples, key=lambda one: one.num_sequences)._replace(values=values)


@dataclasses.dataclass(frozen=True)
class Fades(Check):
    """A measure ends by more than `by` below what it was at its height, run by run.

    A run's height is its value at the step at which the mean of the *other* runs is greatest:
    the greatest of a curve's own noisy points would lie above its end also where nothing fades.
    """

    measure: str
    condition: str
    by: float

    def text(self) -> str:
        """See Check."""
        return (
            f"{self.measure}: at {self.condition} it ends by more than {self.by:g} below its "
            f"height, at the step that the other runs tell (mean over runs, 95 % interval)"
        )

    def judge(self, evidence: Evidence) -> CheckResult:
        """See Check."""
        by_step = [run.curves[self.measure] for run in evidence.runs[self.condition]]
        # Runs that were prolonged have points of their own.
        steps = sorted(set(by_step[0]).intersection(*by_step))
        curves = np.array([[own[step] for step in steps] for own in by_step])
        # Of a run that is alone there are no others; nothing is decided by it.
        others = curves.sum(axis=0) - curves if len(curves) > 1 else curves
        peaks = curves[np.arange(len(curves)), others.argmax(axis=1)]
        ends = curves[:, -1]
        sample = evidence.sample(self.condition, self.measure)
        of_both = (sample._replace(values=values) for values in (peaks, ends))
        drop = difference_estimate(*of_both, paired=True)
        means = {"mean height": float(np.mean(peaks)), "mean at the end": float(np.mean(ends))}
        return judged("drop", drop, self.by, math.inf, means)


@dataclasses.dataclass(frozen=True)
class Claim:
    """A finding in one sentence, and the checks that decide it: all of them must hold."""

    text: str
    checks: tuple[Check, ...]
    rule: Rule = "limits"  # How its differences are read.

    def read_by(self, rule: Rule) -> tuple[Check, ...]:
        """Its checks, as a rule reads them."""
        return tuple(check.read_by(rule) for check in self.checks)
