"""Claims that can fail: a sentence, the checks that it is made of, and the verdict.

A claim is reproduced if all of its checks hold, not reproduced if one fails, else inconclusive.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Literal, NamedTuple

from emergent_icl.sweeps.checks import Check, Decision, Evidence, Finding, all_of

Verdict = Literal["reproduced", "not reproduced", "inconclusive"]


@dataclasses.dataclass(frozen=True)
class Claim:
    """A finding in words, and the checks that decide it.

    Attributes:
      text: one sentence.
      checks: all of them must hold.
    """

    text: str
    checks: tuple[Check, ...]

    def conditions(self) -> set[str]:
        """Conditions that are named."""
        return set[str]().union(*(check.conditions() for check in self.checks))

    def measures(self) -> set[str]:
        """Measures that are read."""
        return set[str]().union(*(check.measures() for check in self.checks))

    def needs_values(self) -> bool:
        """Whether every condition must have a value."""
        return any(getattr(check, "needs_values", False) for check in self.checks)


class Judged(NamedTuple):
    """A claim's verdict, with the finding of each check in order."""

    verdict: Verdict
    findings: tuple[Finding, ...]


def judge(claim: Claim, evidence: Evidence, expected_runs: int) -> Judged:
    """Decides a claim.

    Args:
      claim: of the sweep.
      evidence: of its complete runs.
      expected_runs: a condition. Where some are missing, or diverged, no check can hold.
    """
    findings = [_judge_check(check, evidence, expected_runs) for check in claim.checks]
    outcome = all_of(finding.outcome for finding in findings)
    names: dict[Decision, Verdict] = {
        "holds": "reproduced",
        "fails": "not reproduced",
        "undecided": "inconclusive",
    }
    return Judged(names[outcome], tuple(findings))


def _judge_check(check: Check, evidence: Evidence, expected_runs: int) -> Finding:
    needs_all = getattr(check, "needs_all", False)
    needed = set(evidence.runs) if needs_all else check.conditions()
    counts = {name: len(runs) for name, runs in evidence.runs.items() if name in needed}
    short = {name: count for name, count in counts.items() if count < expected_runs}
    reason = _absence(short, expected_runs)
    if 0 in counts.values() or not counts:
        return Finding("undecided", {}, reason or "there are no runs")
    found = check.judge(evidence)
    return Finding("undecided", found.numbers, reason) if short else found


def _absence(counts: Mapping[str, int], expected_runs: int) -> str:
    none = [name for name, count in counts.items() if count == 0]
    parts = [f"no runs of {', '.join(none)}"] if none else []
    parts += [
        f"{name} has {count} of {expected_runs} runs (others are missing, or diverged)"
        for name, count in counts.items()
        if count
    ]
    return "; ".join(parts)
