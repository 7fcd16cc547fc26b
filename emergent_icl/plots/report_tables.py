"""Tables of the report as HTML, safe by default: whatever is no `Html` yet is escaped."""

from __future__ import annotations

import html
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from emergent_icl.plots import sweep_curves as curves
from emergent_icl.plots.sweep_curves import Json

# Outcome of a check -> its sign.
OUTCOMES = {"holds": "✓", "fails": "✗", "undecided": "?"}
UNKNOWN = "–"  # noqa: RUF001
LEAST_P = 1e-4
NO_BREAK = "\N{NO-BREAK SPACE}"


class Html(str):
    """Text that is markup already."""


def markup(content: object) -> Html:
    """Anything as HTML; text is escaped, for use between tags and in quoted attributes."""
    return content if isinstance(content, Html) else Html(html.escape(str(content), quote=True))


def lines(parts: Iterable[object]) -> Html:
    """One below the other."""
    return Html("<br>".join(markup(part) for part in parts))


def table(
    caption: str, headers: Sequence[str], rows: Iterable[Sequence[object]], *, kind: str = ""
) -> Html:
    """A table in a box that scrolls sideways where it must.

    Args:
      caption: says what it is.
      headers: of the columns; the first column is each row's header.
      rows: a cell a header; what is no `Html` is escaped.
      kind: a class of report.css.
    """
    head = "".join(f'<th scope="col">{markup(header)}</th>' for header in headers)
    body = []
    for first, *others in rows:
        cells = "".join(
            f'<td data-label="{markup(header)}">{markup(cell)}</td>'
            for header, cell in zip(headers[1:], others, strict=True)
        )
        body.append(f'<tr><th scope="row">{markup(first)}</th>{cells}</tr>')
    return Html(
        # Seen above the box, where it does not scroll with the table; read out as a caption.
        f'<p class="caption" aria-hidden="true">{markup(caption)}</p>'
        f'<div class="scroll" role="region" tabindex="0" aria-label="{markup(caption)}">'
        f'<table class="{markup(kind)}"><caption class="unseen">{markup(caption)}</caption>'
        f"<thead><tr>{head}</tr></thead><tbody>{''.join(body)}</tbody></table></div>"
    )


def details(summary: str, content: Html) -> Html:
    """What is shown when it is asked for."""
    return Html(f"<details><summary>{markup(summary)}</summary>{content}</details>")


def number_text(value: object, digits: int = 3) -> str:
    """A few digits, a real minus; what is unknown or infinite says so."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "unknown"
    if not isinstance(value, int | float) or isinstance(value, bool):
        return str(value)
    text = "∞" if math.isinf(value) else f"{abs(value):.{digits}g}"
    return f"\N{MINUS SIGN}{text}" if value < 0 else text


def numbers_text(numbers: Json) -> str:
    """The numbers of a statistic in a line: 'difference 0.41 [0.36, 0.45], p = 0.0079'.

    A pair is the interval of the number before it, of 95 % unless said otherwise.
    """
    text = ""
    for name, value in numbers.items():
        if isinstance(value, list | tuple):
            level = name.rpartition(", ")[2].replace(" ", NO_BREAK)
            said = "" if level == f"95{NO_BREAK}%" else f"{NO_BREAK}({level})"
            text += f" [{', '.join(number_text(bound) for bound in value)}]{said}"
        else:
            text += (", " if text else "") + _named_number(name, value)
    return text


def finding_text(check: Json) -> str:
    """What became of a check: its numbers, and why they do not tell."""
    return "; ".join(part for part in (numbers_text(check["numbers"]), check["reason"]) if part)


def _named_number(name: str, value: object) -> str:
    # A name and its number are not parted at a line's end.
    if name != "p":
        return f"{name}{NO_BREAK}{number_text(value)}"
    if curves.is_number(value) and value < LEAST_P:
        return f"p{NO_BREAK}<{NO_BREAK}{LEAST_P:.4f}"
    return f"p{NO_BREAK}={NO_BREAK}{number_text(value, 2)}"


def mean_text(values: Sequence[float]) -> str:
    """Mean, standard deviation over runs and their number."""
    if not values:
        return UNKNOWN
    mean = f"{np.mean(values):.3f}"
    # A value of each run: the deviation is that of runs, not of their mean.
    deviation = f" ± {np.std(values, ddof=1):.3f}" if len(values) > 1 else ""
    return f"{mean}{deviation} ({len(values)})"


def options(values: Mapping[str, Any]) -> Html:
    """Options of a config, a line each."""
    return lines(
        Html(f"<code>{markup(name)} = {markup(value_text(value))}</code>")
        for name, value in values.items()
    )


def value_text(value: object) -> str:
    """A value of a config as its file would have it."""
    if isinstance(value, float):
        return f"{value:.6g}"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def verdict_mark(verdict: Json | None) -> Html:
    """Sign and word, in the verdict's colour."""
    text, colour = curves.verdict_text(verdict)
    return Html(f'<span class="verdict" style="color:{colour}">{markup(text)}</span>')


def statistics_table(verdict: Json) -> Html:
    """Every check of a claim: what it asks, how it came out, and with what numbers."""
    rows = [
        (
            one["check"],
            f"{OUTCOMES.get(one['outcome'], UNKNOWN)} {one['outcome']}",
            numbers_text(one["numbers"]),
            one["reason"],
        )
        for one in verdict["statistics"]
    ]
    headers = ("Check", "Outcome", "Numbers", "Why")
    if not any(row[-1] for row in rows):
        headers, rows = headers[:-1], [row[:-1] for row in rows]
    return table("What the claim asks of the runs", headers, rows, kind="statistics cards")


def conditions_table(sweep: Json) -> Html:
    """What each condition changes, and what its runs end with."""
    measures = sweep["measures"]
    rows = []
    for name, condition in curves.in_order(sweep["conditions"]).items():
        ends = [mean_text(curves.finals(condition, measure)) for measure in measures]
        rows.append((name, *ends, _state(condition), options(condition["overrides"])))
    headers = ("Condition", *(curves.measure(one).short for one in measures), "Runs", "Overrides")
    caption = "At the end of training: mean ± standard deviation over seeds (number of runs)"
    return table(caption, headers, rows, kind="numbers")


def search_tables(search: Json, measures: Sequence[str]) -> Html:
    """Every draw of the search for settings, with the one that was chosen."""
    parts = []
    headers = ("Draw", *(curves.measure(one).short for one in measures), "Chosen", "Settings")
    for condition, found in search.items():
        rows = [
            (
                draw,
                *(_end_text(one["final"].get(measure)) for measure in measures),
                "✓ chosen" if draw == found["chosen"] else _diverged(one),
                options(one["overrides"]),
            )
            for draw, one in found["draws"].items()
        ]
        chosen = "" if found["chosen"] else "; none was chosen"
        parts.append(table(f"Draws for {condition}{chosen}", headers, rows, kind="numbers"))
    return Html("".join(parts))


def runs_table(sweep: Json) -> Html:
    """Where each run lies."""
    rows = [
        (f"{name}, seed {seed}", Html(f"<code>{markup(run['workdir'])}</code>"), run["replica"],
         _run_state(run))
        for name, condition in curves.in_order(sweep["conditions"]).items()
        for seed, run in condition["runs"].items()
    ]  # fmt: skip
    return table("Where the runs lie", ("Run", "Folder", "Replica", "State"), rows)


def pairs_table(caption: str, headers: tuple[str, str], values: Mapping[str, Any]) -> Html:
    """Names and values."""
    rows = [(name, Html(f"<code>{markup(value_text(value))}</code>")) for name, value in
            values.items()]  # fmt: skip
    return table(caption, headers, rows, kind="pairs")


def _end_text(value: object) -> str:
    return f"{value:.3f}" if curves.is_number(value) else UNKNOWN


def _state(condition: Json) -> str:
    runs = condition["runs"]
    diverged = sum(run.get("diverged_at_step") is not None for run in runs.values())
    return f"{len(runs)}, {diverged} diverged" if diverged else str(len(runs))


def _run_state(run: Json) -> str:
    return _diverged(run) or "complete"


def _diverged(run: Json) -> str:
    step = run.get("diverged_at_step")
    return "" if step is None else f"diverged at step {step:,}"
