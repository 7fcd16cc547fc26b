"""Rows of the tables of sweeps for HTML, Markdown, and the terminal; texts are not escaped."""

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from emergent_icl.plots import sweep_data as data
from emergent_icl.plots.sweep_data import Json
from emergent_icl.sweeps.verdicts import ALPHA

# Outcome of a check -> its sign.
OUTCOMES = {"holds": "✓", "fails": "✗", "undecided": "?"}
UNKNOWN = "–"  # noqa: RUF001
LEAST_P, MOST_DIGITS = 1e-4, 6
NO_BREAK = "\N{NO-BREAK SPACE}"


class CheckRow(NamedTuple):
    """A check of a claim: outcome, numbers, and the reason if they do not explain it."""

    sign: str
    outcome: str
    check: str
    numbers: str
    reason: str

    @property
    def said(self) -> str:
        """Numbers and reason."""
        return "; ".join(filter(None, (self.numbers, self.reason)))


class FindingRow(NamedTuple):
    """A finding; `family` is its p value before and after adjustment for all claims, if any."""

    name: str
    title: str
    verdict: str
    color: str
    claim: str
    checks: tuple[CheckRow, ...]
    registration: str
    family: str


class ConditionRow(NamedTuple):
    """A condition: final values (one text per measure), number of runs, and overrides."""

    name: str
    ends: tuple[str, ...]
    runs: str
    overrides: tuple[str, ...]


def finding_rows(results: Json) -> list[FindingRow]:
    """All findings, including those with only a sweep or only a verdict."""
    sweeps, verdicts = results["sweeps"], results["verdicts"]
    rows = []
    for name in dict.fromkeys([*sweeps, *verdicts]):
        verdict = verdicts.get(name, {})
        checks = tuple(
            CheckRow(
                OUTCOMES.get(one["outcome"], UNKNOWN), one["outcome"], one["check"],
                numbers_text(one["numbers"]), one["reason"],
            )
            for one in verdict.get("statistics", ())
        )  # fmt: skip
        title, claim = data.title_of(name, sweeps.get(name)), verdict.get("claim", "")
        text, color = data.verdict_text(verdict)
        registration = data.registration_text(results, name) if verdict else ""
        about = registration, _family_text(verdict, len(verdicts))
        rows.append(FindingRow(name, title, text, color, claim, checks, *about))
    return rows


def _family_text(verdict: Json, num_claims: int) -> str:
    if "strict" not in verdict:
        return ""
    if not all("p" in one["numbers"] for one in verdict["statistics"]):
        return "p not computed"
    p, adjusted = (_p_text(verdict["strict"][name], 3) for name in ("p", "p_adjusted"))
    return f"p{NO_BREAK}{p}, adjusted for {data.count(num_claims, 'claim')} {adjusted}"


def condition_rows(sweep: Json) -> list[ConditionRow]:
    """All conditions in order."""
    rows = []
    for name, one in data.in_order(sweep["conditions"]).items():
        ends = tuple(_end_text(one, measure) for measure in sweep["measures"])
        diverged = sum(map(data.has_diverged, one["runs"].values()))
        runs = f"{len(one['runs'])}" + (f", {diverged} diverged" if diverged else "")
        rows.append(ConditionRow(name, ends, runs, option_lines(one["overrides"])))
    return rows


def _end_text(condition: Json, measure: str) -> str:
    constant = data.constants({"": condition}, measure).get("")
    beside = "" if constant is None else f", constant answer {constant:.3f}"
    return mean_text(data.finals(condition, measure)) + beside


def end_text(value: object) -> str:
    """A final value of a single run."""
    return f"{value:.3f}" if data.is_number(value) else UNKNOWN


def measure_headers(sweep: Json) -> tuple[str, ...]:
    """Column headers of the measures."""
    return tuple(data.look_of(measure).short for measure in sweep["measures"])


def option_lines(values: Mapping[str, Any]) -> tuple[str, ...]:
    """'option = value' for each option."""
    return tuple(f"{name} = {value_text(value)}" for name, value in values.items())


def number_text(value: object, digits: int = 3) -> str:
    """A few significant digits with a true minus sign; 'unknown' or '∞' if not finite."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "unknown"
    if not isinstance(value, int | float) or isinstance(value, bool):
        return str(value)
    text = "∞" if math.isinf(value) else f"{abs(value):.{digits}g}"
    return f"\N{MINUS SIGN}{text}" if value < 0 else text


def numbers_text(numbers: Json) -> str:
    """Numbers of a check in one line: 'difference 0.41 [0.36, 0.45], p = 0.0079'.

    A pair is the interval of the preceding number; levels other than 95% are stated.
    """
    text = ""
    for name, value in numbers.items():
        if isinstance(value, list | tuple):
            level = name.rpartition(", ")[2].replace(" ", NO_BREAK)
            said = "" if level == f"95{NO_BREAK}%" else f"{NO_BREAK}({level})"
            text += f" [{', '.join(number_text(bound) for bound in value)}]{said}"
            continue
        said = _p_text(value) if name == "p" else number_text(value)
        text += f"{', ' if text else ''}{name}{NO_BREAK}{said}"
    return text


def _p_text(p: Any, digits: int = 2) -> str:
    """'= 0.012', or '< 0.0001'."""
    if data.is_number(p) and p < LEAST_P:
        return f"<{NO_BREAK}{LEAST_P:.4f}"
    text = number_text(p, digits)
    # 0.0496 is not 0.05.
    is_rounded_to_alpha = text == f"{ALPHA:g}" and p != ALPHA and digits < MOST_DIGITS
    return _p_text(p, digits + 1) if is_rounded_to_alpha else f"={NO_BREAK}{text}"


def mean_text(values: Sequence[float]) -> str:
    """Mean ± standard deviation over runs (number of runs)."""
    if not values:
        return UNKNOWN
    deviation = f" ± {np.std(values, ddof=1):.3f}" if len(values) > 1 else ""
    return f"{np.mean(values):.3f}{deviation} ({len(values)})"


def value_text(value: object) -> str:
    """A value as in a config file."""
    if isinstance(value, float):
        return f"{value:.6g}"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def diverged_text(run: Json) -> str:
    """'diverged at step 1,000', or ''."""
    return f"diverged at step {run['diverged_at_step']:,}" if data.has_diverged(run) else ""
