"""The tables that the launchers print."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from emergent_icl.cli.console import CONSOLE, say
from emergent_icl.evaluation.metrics import Interval

ROWS = {
    "loss": "loss",
    "accuracy_closed": "closed accuracy",
    "accuracy": "accuracy",
    "predicts_own_label": "predicts the class's own label",
    "predicts_context": "... a label of the context",
    "predicts_fewshot": "... a few-shot label",
    "predicts_common": "... a common class",
    "predicts_rare": "... a rare class",
}


def print_evaluations(evals: Mapping[str, Mapping[str, float | Interval]], title: str) -> None:
    """Prints a table: a row a metric, a column a mode, with intervals where there are any."""
    columns = {mode: [_cell(metrics[name]) for name in ROWS] for mode, metrics in evals.items()}
    print_columns(title, list(ROWS.values()), columns, "metric")


def _cell(value: float | Interval) -> str:
    if isinstance(value, Interval):
        return f"{value.mean:.3f} [{value.low:.3f}, {value.high:.3f}]"
    return f"{value:.3f}"


def print_facts(title: str, facts: Mapping[str, str]) -> None:
    """Prints a table of names and what is to be said of them."""
    table = Table(title=title, title_justify="left", show_header=False, min_width=len(title))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for name, text in facts.items():
        table.add_row(escape(name), escape(text))
    CONSOLE.print(table)


def print_columns(
    title: str, headings: Sequence[str], columns: Mapping[str, Sequence[str]], corner: str = ""
) -> None:
    """Prints a table: a heading for each row, a column of cells for each name."""
    table = Table(title=escape(title), title_justify="left", min_width=len(title))
    table.add_column(corner, no_wrap=True)
    for name in columns:
        table.add_column(escape(name), justify="right", no_wrap=True)
    for row in zip(headings, *columns.values(), strict=True):
        table.add_row(*map(escape, row))
    # As wide as it takes: a number that is cut is worse than a line that wraps.
    width = max(CONSOLE.width, Console(width=10_000).measure(table).maximum)
    Console(highlight=False, width=width).print(table)


def print_table(table: Table) -> None:
    """Prints a table as wide as the terminal, or where there is none, as a page."""
    if CONSOLE.is_terminal:
        CONSOLE.print(table)
    else:
        Console(highlight=False, width=120).print(table)


def print_summary(summary: Mapping[str, Any]) -> None:
    """Prints how a run ended, or each of its replicas."""
    step = summary["step"]
    if "replicas" in summary:
        _print_replicas(summary["replicas"], f"Evaluation after step {step}")
    else:
        print_evaluations(summary["evals"], f"Evaluation after step {step}")
        for name, what in (("icl", "in-context (ICL)"), ("iwl", "in-weights (IWL)")):
            if summary[name] is not None:
                say(f"{what}: {summary[name]:.3f}")
    rate = summary["train_sequences_per_second"]
    speed = f", {rate:.0f} sequences/s in training" if rate else ""
    say(f"{summary['wall_seconds']:.0f} s in all{speed}")


def _print_replicas(replicas: Mapping[str, Mapping[str, Any]], title: str) -> None:
    columns: dict[str, list[str]] = {"ICL": [], "IWL": [], "diverged": []}
    for own in replicas.values():
        for name in ("icl", "iwl"):
            columns[name.upper()].append("-" if own[name] is None else f"{own[name]:.3f}")
        step = own.get("diverged_at_step")
        columns["diverged"].append("" if step is None else f"at step {step}")
    if not any(columns["diverged"]):
        del columns["diverged"]
    print_columns(title, list(replicas), columns)
