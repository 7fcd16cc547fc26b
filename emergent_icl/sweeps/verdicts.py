"""Verdicts: what becomes of a claim by its checks, and of all claims that are judged together.

A claim is reproduced if all of its checks hold, not reproduced if one fails, else inconclusive. The
more claims there are, the more hold by luck. So the claims of a paper are one family: by limits one
is reproduced only if its p, adjusted for their number (Holm), is also below ALPHA.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Literal, NamedTuple

from emergent_icl.sweeps.checks import ALPHA, BEST_FIRST, Check, CheckResult, Decision, Rule
from emergent_icl.sweeps.claims import Claim
from emergent_icl.sweeps.measures import Evidence
from emergent_icl.sweeps.statistics import holm

Verdict = Literal["reproduced", "not reproduced", "inconclusive"]
VERDICTS: Mapping[Decision, Verdict] = {
    "holds": "reproduced", "undecided": "inconclusive", "fails": "not reproduced"
}  # fmt: skip


class Judged(NamedTuple):
    """A claim's verdict by a rule, with the result of each check in order.

    `p` is the greatest of its checks, since all must hold; `p_adjusted` the same for its family.
    """

    verdict: Verdict
    results: tuple[CheckResult, ...]
    p: float
    p_adjusted: float = math.nan


class Readings(NamedTuple):
    """What became of a claim: as its own rule reads it, and by limits, which is the stricter."""

    own: Judged
    strict: Judged


def judge_family(claims: Mapping[str, tuple[Claim, Evidence, int]]) -> dict[str, Readings]:
    """Decides claims together, each with its evidence and the runs that a condition should have.

    Those without runs count in the number of claims, too.
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
    """Decides a claim that is alone; with fewer runs than expected no check can hold."""
    checks = claim.read_by(rule)
    results = tuple(_judge_check(check, evidence, expected_runs) for check in checks)
    outcomes: list[Decision] = [one.outcome for one in results]
    verdict = VERDICTS[max(outcomes, key=BEST_FIRST)]
    return Judged(verdict, results, max(map(_p_of, results)))


def _p_of(result: CheckResult) -> float:
    """1 where there is none."""
    p = result.numbers.get("p")
    return p if isinstance(p, float) and not math.isnan(p) else 1.0


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
    if not few:
        return found
    # Which runs are missing may have to do with what they would have shown.
    numbers = {name: value for name, value in found.numbers.items() if name != "p"}
    return CheckResult("undecided", numbers, reason)
