"""Claims that can fail: a sentence, the checks that it is made of, and the verdict.

Each check is decided by statistics over seeds: it holds, fails, or is undecided, where what was
measured neither bears it out nor rules it out. A claim is reproduced if all of its checks hold, not
reproduced if one fails, else inconclusive.
"""

from __future__ import annotations

import abc
import dataclasses
import math
from collections.abc import Iterable, Mapping
from typing import ClassVar, Literal, NamedTuple

import numpy as np

from emergent_icl.evaluation.metrics import Interval
from emergent_icl.sweeps.measures import Evidence
from emergent_icl.sweeps.statistics import (
    LEVEL,
    difference_interval,
    mean_interval,
    permutation_p,
    spearman,
)

ALPHA = 0.05

Decision = Literal["holds", "fails", "undecided"]
Verdict = Literal["reproduced", "not reproduced", "inconclusive"]
# From best to worst, in the order that `worst_of` and `best_of` use.
VERDICTS: Mapping[Decision, Verdict] = {
    "holds": "reproduced", "undecided": "inconclusive", "fails": "not reproduced"
}  # fmt: skip
# A number, the name of a condition, or an interval.
Number = float | str | tuple[float, float]


class CheckResult(NamedTuple):
    """What became of a check, the numbers that decided it, and a reason where they do not tell.

    The number 'NAME, 95 %' is the interval of NAME, or that of another level.
    """

    outcome: Decision
    numbers: dict[str, Number]
    reason: str = ""


class Check(abc.ABC):
    """One statement that a claim is made of: a frozen dataclass.

    Its fields say what it is about: `measure` and `together` are measures, whatever else is a
    word names a condition. With `needs_all` it needs the runs of every condition there is, with
    `needs_values` a value of each. Derive your own checks from it.
    """

    needs_all: ClassVar[bool] = False
    needs_values: ClassVar[bool] = False

    @abc.abstractmethod
    def text(self) -> str:
        """The statement in words, with its bounds."""

    def conditions(self) -> set[str]:
        """Conditions that it names."""
        fields = vars(self).items()
        return {value for name, value in fields if isinstance(value, str) and name != "measure"}

    def measures(self) -> set[str]:
        """Measures that it reads."""
        fields = vars(self)
        return set(fields["together"] if "together" in fields else [fields["measure"]])

    @abc.abstractmethod
    def judge(self, evidence: Evidence) -> CheckResult:
        """Decides it; every condition that it needs has a run."""


@dataclasses.dataclass(frozen=True)
class Difference(Check):
    """The mean at `high` exceeds that at `low` by more than `more_than`, and surely by something.

    The exact p is of a difference above zero; how sure the bound is, the interval tells.
    """

    measure: str
    high: str
    low: str
    more_than: float = 0.0

    def text(self) -> str:
        """See Check."""
        return (
            f"{self.measure}: mean at {self.high} minus mean at {self.low} is more than "
            f"{self.more_than:g}, exact permutation p of one above 0 < {ALPHA:g}"
        )

    def judge(self, evidence: Evidence) -> CheckResult:
        """See Check."""
        high = evidence.final(self.high, self.measure)
        low = evidence.final(self.low, self.measure)
        difference, p = difference_interval(high, low), permutation_p(high, low)
        numbers = {
            f"mean at {self.high}": float(np.mean(high)),
            f"mean at {self.low}": float(np.mean(low)),
            **_interval_numbers("difference", difference),
            "p": p,
        }
        if difference.high <= self.more_than:
            return CheckResult("fails", numbers)
        if not difference.mean > self.more_than:  # NaN decides nothing.
            return CheckResult("undecided", numbers)
        if p < ALPHA:
            return CheckResult("holds", numbers)
        least = 1 / math.comb(len(high) + len(low), len(low))
        few = f"with {len(high)} and {len(low)} runs p is at least {least:.2g}"
        return CheckResult("undecided", numbers, few if least >= ALPHA else "")


@dataclasses.dataclass(frozen=True)
class Trend(Check):
    """Spearman's rank correlation of the conditions' values with a measure, over all runs."""

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
        pairs = [
            (value, run.final[self.measure])
            for name, value in evidence.values.items()
            for run in evidence.runs[name]
        ]
        x, y = zip(*pairs, strict=True)
        found = spearman(x, y, rising=self.rising)
        numbers = {"rho": found.rho, "p": found.p}
        if (found.rho > 0) == self.rising and found.p < ALPHA:
            return CheckResult("holds", numbers)
        against = spearman(x, y, rising=not self.rising)
        wrong_way = (found.rho > 0) != self.rising and against.p < ALPHA
        return CheckResult("fails" if wrong_way else "undecided", numbers)


@dataclasses.dataclass(frozen=True)
class Within(Check):
    """The mean at a condition lies in a range: all of its 95 % interval does."""

    measure: str
    condition: str
    low: float = -math.inf
    high: float = math.inf

    def text(self) -> str:
        """See Check."""
        where = f"within {self.low:g} and {self.high:g}"
        if self.low == -math.inf:
            where = f"below {self.high:g}"
        elif self.high == math.inf:
            where = f"above {self.low:g}"
        return f"{self.measure}: mean at {self.condition} is {where} (95 % interval)"

    def judge(self, evidence: Evidence) -> CheckResult:
        """See Check."""
        found = mean_interval(evidence.final(self.condition, self.measure))
        return CheckResult(_where(found, self.low, self.high), _interval_numbers("mean", found))


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
        lesser = {
            name: [min(run.final[one] for one in self.together) for run in runs]
            for name, runs in evidence.runs.items()
        }
        missing = mean_interval(lesser.pop(self.not_at))
        if not lesser:
            return CheckResult("undecided", {}, f"there is no condition but {self.not_at}")
        level = 1 - (1 - LEVEL) / len(lesser)
        elsewhere = {name: mean_interval(values, level) for name, values in lesser.items()}
        best = max(elsewhere, key=lambda name: (elsewhere[name].low, elsewhere[name].mean))
        somewhere = best_of(_where(found, self.above, math.inf) for found in elsewhere.values())
        numbers = {
            "best condition": best,
            **_interval_numbers("lesser measure there", elsewhere[best], level),
            **_interval_numbers(f"lesser measure at {self.not_at}", missing),
        }
        return CheckResult(worst_of([somewhere, _where(missing, -math.inf, self.above)]), numbers)


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
        drop = mean_interval(list(peaks - ends))
        numbers = {
            "mean height": float(np.mean(peaks)),
            "mean at the end": float(np.mean(ends)),
            **_interval_numbers("drop", drop),
        }
        return CheckResult(_where(drop, self.by, math.inf), numbers)


def _interval_numbers(name: str, interval: Interval, level: float = LEVEL) -> dict[str, Number]:
    """A number and its interval, as they are reported; one that is not known is left out."""
    bounds = (interval.low, interval.high)
    known = all(map(math.isfinite, bounds))
    return {name: interval.mean, **({f"{name}, {100 * level:.3g} %": bounds} if known else {})}


def _where(interval: Interval, low: float, high: float) -> Decision:
    """Whether an interval lies inside a range, outside of it, or across its border."""
    if low < interval.low and interval.high < high:
        return "holds"
    return "fails" if interval.high <= low or interval.low >= high else "undecided"


def worst_of(decisions: Iterable[Decision]) -> Decision:
    """'holds' if all of at least one do, 'fails' if one does, else 'undecided'."""
    return max(decisions, key=list(VERDICTS).index)


def best_of(decisions: Iterable[Decision]) -> Decision:
    """'holds' if one of at least one does, 'fails' if all do, else 'undecided'."""
    return min(decisions, key=list(VERDICTS).index)


@dataclasses.dataclass(frozen=True)
class Claim:
    """A finding in one sentence, and the checks that decide it: all of them must hold."""

    text: str
    checks: tuple[Check, ...]


class Judged(NamedTuple):
    """A claim's verdict, with the result of each check in order."""

    verdict: Verdict
    results: tuple[CheckResult, ...]


def judge(claim: Claim, evidence: Evidence, expected_runs: int) -> Judged:
    """Decides a claim; where a condition has fewer runs than expected, no check can hold."""
    results = tuple(_judge_check(check, evidence, expected_runs) for check in claim.checks)
    return Judged(VERDICTS[worst_of(one.outcome for one in results)], results)


def _judge_check(check: Check, evidence: Evidence, expected_runs: int) -> CheckResult:
    needed = set(evidence.runs) if getattr(check, "needs_all", False) else check.conditions()
    counts = {name: len(runs) for name, runs in evidence.runs.items() if name in needed}
    absent = [name for name, count in counts.items() if count == 0]
    few = {name: count for name, count in counts.items() if 0 < count < expected_runs}
    reasons = [f"no runs of {', '.join(absent)}"] if absent else []
    but = f"of {expected_runs} runs (others are missing, or diverged)"
    reason = "; ".join([*reasons, *(f"{name} has {count} {but}" for name, count in few.items())])
    if absent or not counts:
        return CheckResult("undecided", {}, reason or "there are no runs")
    found = check.judge(evidence)
    return CheckResult("undecided", found.numbers, reason) if few else found
