"""What a check of a claim is, and how an estimate decides one."""

from __future__ import annotations

import abc
import math
from collections.abc import Callable, Mapping
from typing import ClassVar, Literal, NamedTuple, get_args

from emergent_icl.evaluation.metrics import Interval
from emergent_icl.sweeps.measures import Evidence
from emergent_icl.sweeps.statistics import LEVEL, Estimate

ALPHA = 0.05

Decision = Literal["holds", "undecided", "fails"]
_DECISIONS: tuple[Decision, ...] = get_args(Decision)
BEST_FIRST: Callable[[Decision], int] = _DECISIONS.index  # `max` by it gives the worst.
# How a difference is read: by the limits of its interval; or by its mean, and a test against 0, as
# claims of the first reproduction were.
Rule = Literal["limits", "point"]
# A number, the name of a condition, or an interval.
Number = float | str | tuple[float, float]


class CheckResult(NamedTuple):
    """What became of a check, the numbers that decided it, and a reason where they do not tell.

    The number 'NAME, 95 %' is the interval of NAME, or that of another level; 'p' is one-sided, of
    what is claimed. Without one a check may hold, but bears no claim out by limits.
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

    def read_by(self, rule: Rule) -> Check:
        """The check as a rule reads it."""
        return self

    @abc.abstractmethod
    def judge(self, evidence: Evidence) -> CheckResult:
        """Decides it; every condition that it needs has a run."""


def interval_numbers(name: str, interval: Interval, level: float = LEVEL) -> dict[str, Number]:
    """A number and its interval, as they are reported; one that is not known is left out."""
    bounds = (interval.low, interval.high)
    known = all(map(math.isfinite, bounds))
    return {name: interval.mean, **({f"{name}, {100 * level:.3g} %": bounds} if known else {})}


def require_range(check: Check, low: str, high: str) -> None:
    """Raises ValueError for two bounds with nothing between them, or nothing beyond them."""
    bounds = vars(check)
    if math.inf == bounds[high] == -bounds[low]:
        raise ValueError(f"{type(check).__name__}: {low} or {high} must be a bound")
    if not bounds[low] < bounds[high]:
        raise ValueError(
            f"{type(check).__name__}: {low} = {bounds[low]:g} must be below {high} = "
            f"{bounds[high]:g}"
        )


def range_text(low: float, high: float) -> str:
    """In words."""
    if low == -math.inf:
        return f"below {high:g}"
    return f"above {low:g}" if high == math.inf else f"within {low:g} and {high:g}"


def judged(
    name: str, found: Estimate, low: float, high: float, further: Mapping[str, Number]
) -> CheckResult:
    """The result of a check that an estimate lies in a range; `further` numbers come first."""
    numbers = {**further, **interval_numbers(name, found.interval())}
    numbers["p"] = p_within(found, low, high)
    return CheckResult(decide(found.interval(), low, high), numbers)


def p_within(found: Estimate, low: float, high: float) -> float:
    """One-sided p of a mean inside a range: that of the bound which is less sure."""
    above = found.p_above(low) if low > -math.inf else 0.0
    return max(above, found.p_below(high) if high < math.inf else 0.0)


def decide(interval: Interval, low: float, high: float) -> Decision:
    """Whether an interval lies inside a range, outside of it, or across its border."""
    if low < interval.low and interval.high < high:
        return "holds"
    return "fails" if interval.high <= low or interval.low >= high else "undecided"
