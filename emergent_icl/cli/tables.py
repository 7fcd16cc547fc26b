"""The tables that commands print."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table

from emergent_icl.cli.console import CONSOLE, PLAIN, say
from emergent_icl.data.sequences.types import SequenceType
from emergent_icl.evaluation.metrics import Interval

# Kinds of columns: names, numbers, or text that may take several lines.
NAME: dict[str, Any] = {"no_wrap": True}
NUMBER: dict[str, Any] = {"no_wrap": True, "justify": "right"}
TEXT: dict[str, Any] = {"overflow": "fold"}
# Width of a line where output is not a terminal, and COLUMNS is not set.
PAGE_WIDTH = 120
# Narrower columns of text are hard to read.
LEAST_TEXT = 16

METRICS = {
    "loss": "loss",
    "accuracy_closed": "closed accuracy",
    "accuracy": "accuracy",
    "predicts_own_label": "predicts the class's own label",
    "predicts_context": "... a label of the context",
    "predicts_fewshot": "... a few-shot label",
    "predicts_common": "... a common class",
    "predicts_rare": "... a rare class",
}


def print_table(
    title: str,
    columns: Mapping[Any, Mapping[str, Any]],
    rows: Iterable[Sequence[str]],
    *,
    has_headings: bool = True,
    is_grouped: bool = False,
) -> None:
    """Prints a table of columns {heading: NAME, NUMBER or TEXT}.

    If it is grouped, a row whose first cell is not empty is bold and starts a group.
    """
    rows, is_known = list(rows), CONSOLE.is_terminal or "COLUMNS" in os.environ
    width = CONSOLE.width if is_known else PAGE_WIDTH
    if TEXT in columns.values() and width < _least_width(columns, rows):
        _print_list(title, [f"{name}: " if has_headings else "" for name in columns], rows)
        return
    table = Table(title=title, title_justify="left", show_header=has_headings, min_width=len(title))
    for heading, kind in columns.items():
        table.add_column(heading, **kind)
    for row in rows:
        begins = is_grouped and bool(row[0])
        if begins:
            table.add_section()
        table.add_row(*row, style="bold" if begins else None)
    if TEXT not in columns.values():
        # As wide as needed: a truncated number is worse than a wrapped line.
        width = max(width, Console(width=10_000, **PLAIN).measure(table).maximum)
    Console(width=width, **PLAIN).print(table)


def _least_width(columns: Mapping[str, Mapping[str, Any]], rows: Sequence[Sequence[str]]) -> int:
    """The width below which Rich would drop values."""
    widest = [max(map(cell_len, column)) for column in zip(columns, *rows, strict=True)]
    return 1 + sum(
        3 + (min(width, LEAST_TEXT) if kind is TEXT else width)
        for width, kind in zip(widest, columns.values(), strict=True)
    )


def _print_list(title: str, headings: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Prints a line for each cell, for narrow terminals."""
    say(title)
    for first, *others in rows:
        say(first)
        for heading, text in zip(headings[1:], others, strict=True):
            say(f"  {heading}{text}")


def print_facts(title: str, facts: Mapping[str, str]) -> None:
    """Prints a table of names and facts, without headings."""
    print_table(title, {"name": NAME, "text": TEXT}, facts.items(), has_headings=False)


def print_columns(
    title: str, headings: Sequence[str], columns: Mapping[str, Sequence[str]], corner: str = ""
) -> None:
    """Prints a table with a heading for each row, and a named column of cells for each entry."""
    kinds = {corner: NAME, **dict.fromkeys(columns, NUMBER)}
    print_table(title, kinds, zip(headings, *columns.values(), strict=True))


def print_evaluations(evals: Mapping[str, Mapping[str, float | Interval]], title: str) -> None:
    """Prints a row for each metric and a column for each mode, with intervals if there are any."""
    columns = {mode: [cell(metrics[name]) for name in METRICS] for mode, metrics in evals.items()}
    print_columns(title, list(METRICS.values()), columns, "metric")


def constant_text(kind: SequenceType) -> str:
    """', always the commonest answer gives 0.832', where that is far above chance; else ''."""
    constant = kind.constant
    return "" if constant is None else f", always the commonest answer gives {constant:.3f}"


def cell(value: float | Interval | None) -> str:
    """A number with its interval, if it has one; '-' for none."""
    if isinstance(value, Interval):
        return str(value)
    return "-" if value is None else f"{value:.3f}"


def print_summary(summary: Mapping[str, Any]) -> None:
    """Prints the results of a run, or of each of its replicas."""
    title = f"Evaluation after step {summary['step']}"
    if "replicas" in summary:
        _print_replicas(summary["replicas"], title)
    else:
        print_evaluations(summary["evals"], title)
        for name, what in (("icl", "in-context (ICL)"), ("iwl", "in-weights (IWL)")):
            if summary[name] is not None:
                say(f"{what}: {summary[name]:.3f}")
    rate = summary["train_sequences_per_second"]
    speed = f", {rate:.0f} sequences/s in training" if rate else ""
    say(f"{summary['wall_seconds']:.0f} s in all{speed}")


def _print_replicas(replicas: Mapping[str, Mapping[str, Any]], title: str) -> None:
    columns = {
        name.upper(): [cell(one[name]) for one in replicas.values()] for name in ("icl", "iwl")
    }
    ends = {"diverged": [], "last finite loss": []}
    for one in replicas.values():
        step = one.get("diverged_at_step")
        ends["diverged"].append("" if step is None else f"at step {step}")
        ends["last finite loss"].append("" if step is None else cell(one.get("last_finite_loss")))
    print_columns(title, list(replicas), columns | (ends if any(ends["diverged"]) else {}))
