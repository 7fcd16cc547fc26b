"""Claims, checks, and verdicts, and how estimates decide them.

A claim is a sentence, and the checks that make it up. Each check holds, fails, or is undecided. A
claim is reproduced if all of its checks hold, not reproduced if one fails, and otherwise
inconclusive. The claims of a paper form one family: by limits, a claim is reproduced only if its p,
adjusted for their number (Holm), is also below ALPHA.
"""

import abc
import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import ClassVar, Literal, NamedTuple, get_args

from emergent_icl.evaluation.metrics import Interval
from emergent_icl.sweeps.evidence import Evidence
from emergent_icl.sweeps.statistics import LEVEL, Estimate, holm

ALPHA = 0.05

Decision = Literal["holds", "undecided", "fails"]
Verdict = Literal["reproduced", "not reproduced", "inconclusive"]
VERDICTS: Mapping[Decision, Verdict] = {
    "holds": "reproduced", "undecided": "inconclusive", "fails": "not reproduced"
}  # fmt: skip
_DECISIONS: tuple[Decision, ...] = get_args(Decision)
BEST_FIRST: Callable[[Decision], int] = _DECISIONS.index  # `max` by it is the worst decision.
# How a difference is judged: by the limits of its interval, or (version 0.1.0) by its mean and a
# test against 0.
Rule = Literal["limits", "point"]
# A number, the name of a condition, or an interval.
Number = float | str | tuple[float, float]


class CheckResult(NamedTuple):
    """The outcome of a check, its numbers, and a reason if they do not explain the outcome.

    'NAME, 95 %' is the interval of the number NAME. 'p' is one-sided, for what is claimed; without
    it, a check may hold, but its claim is not reproduced by limits.
    """

    outcome: Decision
    numbers: dict[str, Number]
    reason: str = ""


class Check(abc.ABC):
    """One statement of a claim: a frozen dataclass. Derive your own checks from it.

    The fields `measure` and `together` are measures; any other string is the name of a condition.
    A check with `needs_all` needs runs of every condition; with `needs_values`, a value of each.
    """

    needs_all: ClassVar[bool] = False
    needs_values: ClassVar[bool] = False

    @abc.abstractmethod
    def text(self) -> str:
        """The statement in words, with its bounds."""

    @abc.abstractmethod
    def judge(self, evidence: Evidence) -> CheckResult:
        """Decides the check; every condition that it needs has at least one run."""

    def conditions(self) -> set[str]:
        """Names of the conditions that it compares."""
        fields = vars(self).items()
        return {value for name, value in fields if isinstance(value, str) and name != "measure"}

    def measures(self) -> set[str]:
        """Names of the measures that it reads."""
        fields = vars(self)
        return set(fields["together"] if "together" in fields else [fields["measure"]])

    def read_by(self, rule: Rule) -> "Check":
        """The check as judged under a rule."""
        return self


@dataclasses.dataclass(frozen=True)
class Claim:
    """A finding in one sentence, and the checks that decide it: all of them must hold."""

    text: str
    checks: tuple[Check, ...]
    rule: Rule = "limits"  # How its differences are judged.

    def read_by(self, rule: Rule) -> tuple[Check, ...]:
        """Its checks as judged under a rule."""
        return tuple(check.read_by(rule) for check in self.checks)


class Judged(NamedTuple):
    """A claim's verdict under a rule, and the result of each check in order.

    `p` is the largest p of its checks, since all must hold; `p_adjusted` is adjusted for its
    family.
    """

    verdict: Verdict
    results: tuple[CheckResult, ...]
    p: float
    p_adjusted: float = math.nan


class Readings(NamedTuple):
    """A claim judged under its own rule, and by limits, which is stricter."""

    own: Judged
    strict: Judged


def judge_family(claims: Mapping[str, tuple[Claim, Evidence, int]]) -> dict[str, Readings]:
    """Judges claims together, given their evidence and the expected number of runs per condition.

    Claims without runs count toward the size of the family.
    """
    limits = {name: judge(*one, "limits") for name, one in claims.items()}
    adjusted = holm({name: one.p for name, one in limits.items()})
    readings = {}
    for name, (claim, evidence, runs) in claims.items():
        strict = limits[name]._replace(p_adjusted=adjusted[name])
        if strict.verdict == "reproduced" and adjusted[name] >= ALPHA:
            strict = strict._replace(verdict="inconclusive")
        own = strict if claim.rule == "limits" else judge(claim, evidence, runs, claim.rule)
        readings[name] = Readings(own, strict)
    return readings


def judge(claim: Claim, evidence: Evidence, expected_runs: int, rule: Rule) -> Judged:
    """Judges a single claim; with fewer runs than expected, no check can hold."""
    checks = claim.read_by(rule)
    results = tuple(_judge_check(check, evidence, expected_runs) for check in checks)
    outcomes: list[Decision] = [one.outcome for one in results]
    verdict = VERDICTS[max(outcomes, key=BEST_FIRST)]
    return Judged(verdict, results, max(map(_p_of, results)))


def _p_of(result: CheckResult) -> float:
    """The p of a check; 1 without one."""
    p = result.numbers.get("p")
    return p if isinstance(p, float) and not math.isnan(p) else 1.0


def _judge_check(check: Check, evidence: Evidence, expected_runs: int) -> CheckResult:
    needed = set(evidence.runs) if check.needs_all else check.conditions()
    counts = {name: len(runs) for name, runs in evidence.runs.items() if name in needed}
    absent = [name for name, count in counts.items() if count == 0]
    few = {name: count for name, count in counts.items() if 0 < count < expected_runs}
    reasons = [f"no runs of {', '.join(absent)}"] if absent else []
    but = f"of {expected_runs} runs (others are missing, or diverged)"
    reason = "; ".join([*reasons, *(f"{name} has {count} {but}" for name, count in few.items())])
    if absent or not counts:
        return CheckResult("undecided", {}, reason or "there are no runs")
    found = check.judge(evidence)
    if not few:
        return found
    # Runs may be missing because of what they would have shown.
    numbers = {name: value for name, value in found.numbers.items() if name != "p"}
    return CheckResult("undecided", numbers, reason)


def interval_numbers(name: str, interval: Interval, level: float = LEVEL) -> dict[str, Number]:
    """A mean and its interval as reported numbers; an unknown interval is omitted."""
    bounds = (interval.low, interval.high)
    known = all(map(math.isfinite, bounds))
    return {name: interval.mean, **({f"{name}, {100 * level:.3g} %": bounds} if known else {})}


class Range(NamedTuple):
    """Bounds that a mean must lie between."""

    low: float = -math.inf
    high: float = math.inf

    def __str__(self) -> str:
        if self.low == -math.inf:
            return f"below {self.high:g}"
        high = f" and {self.high:g}"
        return f"within {self.low:g}{high}" if self.high < math.inf else f"above {self.low:g}"

    def require(self, check: Check, low: str, high: str) -> None:
        """Raises ValueError if bounds, fields of a check, exclude nothing or everything."""
        kind = type(check).__name__
        if self == Range():
            raise ValueError(f"{kind}: {low} or {high} must be a bound")
        if not self.low < self.high:
            raise ValueError(f"{kind}: {low} = {self.low:g} must be below {high} = {self.high:g}")

    def decide(self, interval: Interval) -> Decision:
        """Whether an interval lies inside the range, outside of it, or across a bound."""
        if self.low < interval.low and interval.high < self.high:
            return "holds"
        is_outside = interval.high <= self.low or interval.low >= self.high
        return "fails" if is_outside else "undecided"

    def p(self, found: Estimate) -> float:
        """One-sided p of a mean within the range: the larger p of its two bounds."""
        above = found.p_above(self.low) if self.low > -math.inf else 0.0
        return max(above, found.p_below(self.high) if self.high < math.inf else 0.0)

    def judge(self, name: str, found: Estimate, **further: Number) -> CheckResult:
        """The result of a check that an estimate lies in the range; `further` come first."""
        numbers = further | interval_numbers(name, found.interval()) | {"p": self.p(found)}
        return CheckResult(self.decide(found.interval()), numbers)
