"""Tables of sweeps: their rows, built once for the page, for Markdown and for the terminal.

A cell is a text, or a tuple of lines of code: options, folders. Whoever shows it escapes it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from emergent_icl.plots import sweep_data as data
from emergent_icl.plots.sweep_data import Json

# Outcome of a check -> its sign.
OUTCOMES = {"holds": "✓", "fails": "✗", "undecided": "?"}
UNKNOWN = "–"  # noqa: RUF001
LEAST_P = 1e-4
# Accuracy of always giving the most frequent answer, where it is above chance.
CONSTANT = "constant answer"
NO_BREAK = "\N{NO-BREAK SPACE}"

Cell = str | tuple[str, ...]


class Table(NamedTuple):
    """A table of the page; the first cell is its row's header, `kind` a class of report.css."""

    caption: str
    headers: tuple[str, ...]
    rows: Sequence[tuple[Cell, ...]]
    kind: str = ""


class CheckRow(NamedTuple):
    """A check of a claim: how it came out, what it asks, with what numbers, and why."""

    sign: str
    outcome: str
    check: str
    numbers: str
    reason: str

    @property
    def said(self) -> str:
        """Its numbers, and why they do not tell."""
        return "; ".join(filter(None, (self.numbers, self.reason)))


class FindingRow(NamedTuple):
    """A finding: its verdict and the color of that, its claim with checks, how it was fixed.

    `family` says what became of its p among all claims, '' where it has none.
    """

    name: str
    title: str
    verdict: str
    color: str
    claim: str
    checks: tuple[CheckRow, ...]
    registration: str
    family: str


class ConditionRow(NamedTuple):
    """A condition: what its runs end with, a text a measure, their number, what it changes."""

    name: str
    ends: tuple[str, ...]
    runs: str
    overrides: tuple[str, ...]


def finding_rows(results: Json) -> list[FindingRow]:
    """Every finding; what was planned but not run may have only a sweep, or only a verdict."""
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
    """The p of a claim in its family."""
    if "strict" not in verdict:
        return ""
    p, adjusted = (_p_text(verdict["strict"][name], 3) for name in ("p", "p_adjusted"))
    return f"p{NO_BREAK}{p}, adjusted for {data.count(num_claims, 'claim')} {adjusted}"


def condition_rows(sweep: Json) -> list[ConditionRow]:
    """Every condition, in order."""
    rows = []
    for name, one in data.in_order(sweep["conditions"]).items():
        ends = tuple(_end_text(one, measure) for measure in sweep["measures"])
        diverged = sum(map(data.has_diverged, one["runs"].values()))
        runs = f"{len(one['runs'])}" + (f", {diverged} diverged" if diverged else "")
        rows.append(ConditionRow(name, ends, runs, options(one["overrides"])))
    return rows


def _end_text(condition: Json, measure: str) -> str:
    constant = data.constants({"": condition}, measure).get("")
    beside = "" if constant is None else f", {CONSTANT} {constant:.3f}"
    return mean_text(data.finals(condition, measure)) + beside


def measure_headers(sweep: Json) -> tuple[str, ...]:
    """A column's header for each measure."""
    return tuple(data.look_of(measure).short for measure in sweep["measures"])


def checks_table(checks: Sequence[CheckRow]) -> Table:
    """Every check of a claim."""
    # Reasons have a column where there are any.
    shown = 4 if any(one.reason for one in checks) else 3
    headers = ("Check", "Outcome", "Numbers", "Why")[:shown]
    cells = [(one.check, f"{one.sign} {one.outcome}", one.numbers, one.reason) for one in checks]
    rows = [row[:shown] for row in cells]
    return Table("What the claim asks of the runs", headers, rows, "statistics cards")


def conditions_table(sweep: Json) -> Table:
    """What each condition changes, and what its runs end with."""
    caption = "At the end of training: mean ± standard deviation over seeds (number of runs)"
    if any(data.constants(sweep["conditions"], measure) for measure in sweep["measures"]):
        caption += f"; {CONSTANT}: always giving the most frequent one"
    headers = ("Condition", *measure_headers(sweep), "Runs", "Overrides")
    rows = [(one.name, *one.ends, one.runs, one.overrides) for one in condition_rows(sweep)]
    return Table(caption, headers, rows, "numbers")


def search_tables(sweep: Json) -> list[Table]:
    """Every draw of the search for settings, with the one that was chosen; a table a condition."""
    headers = ("Draw", *measure_headers(sweep), "Chosen", "Settings")
    tables = []
    for condition, found in sweep["search"].items():
        rows = []
        for draw, one in found["draws"].items():
            ends = [one["final"].get(measure) for measure in sweep["measures"]]
            texts = [f"{end:.3f}" if data.is_number(end) else UNKNOWN for end in ends]
            state = "✓ chosen" if draw == found["chosen"] else _diverged(one)
            rows.append((draw, *texts, state, options(one["overrides"])))
        none = "" if found["chosen"] else "; none was chosen"
        tables.append(Table(f"Draws for {condition}{none}", headers, rows, "numbers"))
    return tables


def runs_table(sweep: Json) -> Table:
    """Where each run lies."""
    rows = [
        (f"{name}, seed {seed}", (run["workdir"],), run["replica"], _diverged(run) or "complete")
        for name, condition in data.in_order(sweep["conditions"]).items()
        for seed, run in condition["runs"].items()
    ]
    return Table("Where the runs lie", ("Run", "Folder", "Replica", "State"), rows)


def pairs_table(caption: str, headers: tuple[str, str], values: Mapping[str, Any]) -> Table:
    """Names and values."""
    rows = [(name, (value_text(one),)) for name, one in values.items()]
    return Table(caption, headers, rows, "pairs")


def options(values: Mapping[str, Any]) -> tuple[str, ...]:
    """Options of a config, a line each."""
    return tuple(f"{name} = {value_text(value)}" for name, value in values.items())


def number_text(value: object, digits: int = 3) -> str:
    """A few digits with a proper minus sign, or 'unknown', or '∞'."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "unknown"
    if not isinstance(value, int | float) or isinstance(value, bool):
        return str(value)
    text = "∞" if math.isinf(value) else f"{abs(value):.{digits}g}"
    return f"\N{MINUS SIGN}{text}" if value < 0 else text


def numbers_text(numbers: Json) -> str:
    """The numbers of a check in a line: 'difference 0.41 [0.36, 0.45], p = 0.0079'.

    A pair is the interval of the number before it, of 95 % unless said otherwise.
    """
    text = ""
    for name, value in numbers.items():
        if isinstance(value, list | tuple):
            level = name.rpartition(", ")[2].replace(" ", NO_BREAK)
            said = "" if level == f"95{NO_BREAK}%" else f"{NO_BREAK}({level})"
            text += f" [{', '.join(number_text(bound) for bound in value)}]{said}"
            continue
        said = _p_text(value) if name == "p" else number_text(value)
        # A name and its number are not parted at a line's end.
        text += f"{', ' if text else ''}{name}{NO_BREAK}{said}"
    return text


def _p_text(p: Any, digits: int = 2) -> str:
    """'= 0.012', or '< 0.0001'."""
    if data.is_number(p) and p < LEAST_P:
        return f"<{NO_BREAK}{LEAST_P:.4f}"
    return f"={NO_BREAK}{number_text(p, digits)}"


def mean_text(values: Sequence[float]) -> str:
    """Mean, standard deviation over runs and their number."""
    if not values:
        return UNKNOWN
    # A value of each run: the deviation is that of runs, not of their mean.
    deviation = f" ± {np.std(values, ddof=1):.3f}" if len(values) > 1 else ""
    return f"{np.mean(values):.3f}{deviation} ({len(values)})"


def value_text(value: object) -> str:
    """A value of a config as its file would have it."""
    if isinstance(value, float):
        return f"{value:.6g}"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def _diverged(run: Json) -> str:
    return f"diverged at step {run['diverged_at_step']:,}" if data.has_diverged(run) else ""
