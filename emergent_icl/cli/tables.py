"""Printed tables."""

import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table

from emergent_icl.cli.console import CONSOLE, PLAIN, say
from emergent_icl.config.registry import METRICS
from emergent_icl.data.task import Task
from emergent_icl.evaluation.measures import visible_constant
from emergent_icl.evaluation.metrics import Interval

# Kinds of columns; only text wraps.
NAME: dict[str, Any] = {"no_wrap": True}
NUMBER: dict[str, Any] = {"no_wrap": True, "justify": "right"}
TEXT: dict[str, Any] = {"overflow": "fold"}
# Columns where output is not a terminal and COLUMNS is unset, and at least for wrapped text.
PAGE_WIDTH, LEAST_TEXT = 120, 16


def print_table(
    title: str,
    columns: Mapping[Any, Mapping[str, Any]],
    rows: Iterable[Sequence[str]],
    *,
    has_headings: bool = True,
    is_grouped: bool = False,
) -> None:
    """Prints a table of columns {heading: NAME, NUMBER or TEXT}, as a list if space is short.

    With `is_grouped`, a row whose first cell is not empty is bold and starts a group.
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
        # A truncated number is worse than a wrapped line.
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
    """Prints a table of names and facts without headings."""
    print_table(title, {"name": NAME, "text": TEXT}, facts.items(), has_headings=False)


def print_columns(
    title: str, headings: Sequence[str], columns: Mapping[str, Sequence[str]], corner: str = ""
) -> None:
    """Prints a table with row headings and a column of cells for each entry."""
    kinds = {corner: NAME, **dict.fromkeys(columns, NUMBER)}
    print_table(title, kinds, zip(headings, *columns.values(), strict=True))


def print_evaluations(evals: Mapping[str, Mapping[str, float | Interval]], title: str) -> None:
    """Prints a row per metric and a column per mode, with intervals if available."""
    titles = {name: METRICS.about(name).title or name for name in METRICS}
    # A stored evaluation may lack a metric that was registered later.
    columns = {mode: [cell(found.get(name)) for name in titles] for mode, found in evals.items()}
    print_columns(title, list(titles.values()), columns, "metric")


def constant_text(mode: str, task: Task) -> str:
    """Accuracy of a constant prediction where it visibly exceeds closed chance; else ''."""
    if (constant := visible_constant(f"eval/{mode}/accuracy_closed", task)) is None:
        return ""
    return f"always predicting the most common label gives {constant:.3f}"


def cell(value: float | Interval | None) -> str:
    """A number with its interval, if it has one; '-' for none."""
    if isinstance(value, Interval):
        return str(value)
    return "-" if value is None else f"{value:.3f}"


def print_summary(summary: Mapping[str, Any]) -> None:
    """Prints the results of a run or of its replicas."""
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
    say(f"{summary['wall_seconds']:.0f} s in total{speed}")


def _print_replicas(replicas: Mapping[str, Mapping[str, Any]], title: str) -> None:
    ends = list(replicas.values())
    columns = {name.upper(): [cell(end[name]) for end in ends] for name in ("icl", "iwl")}
    steps = [end.get("diverged_at_step") for end in ends]
    if any(step is not None for step in steps):
        columns["diverged"] = ["" if step is None else f"at step {step}" for step in steps]
        columns["last finite loss"] = [
            "" if step is None else cell(end.get("last_finite_loss"))
            for step, end in zip(steps, ends, strict=True)
        ]
    print_columns(title, list(replicas), columns)
