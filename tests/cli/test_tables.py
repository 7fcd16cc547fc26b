"""Tables show every value on terminals of any width."""

import re

import pytest
from rich.console import Console

from emergent_icl.cli import console, tables
from emergent_icl.config.registry import METRICS
from emergent_icl.evaluation.metrics import Interval

LONG = "fewshot_holdout, 8 pairs and a query, closed chance 1 / 2, a_word_that_is_longer_than_any"
FACTS = {"evaluation: no_support_zipfian": LONG, "data": "glyphs: 40 classes", "all": "1,234,567"}
EVALUATIONS = {
    mode: {name: Interval(0.5, 0.4321, 0.6789) for name in METRICS}
    for mode in ("fewshot_holdout", "no_support_zipfian", "flip")
}
VERDICTS = [
    ("burstiness", "✓ reproduced", LONG),
    ("", "  ✓ holds", "ICL at 1.0: 0.95"),
    ("", "", LONG),
]
STATUS = [("classes/1000/seeds=0-7", "12% done", "RUNNING (job 17)", "600/5,000", LONG)]


def print_verdicts():
    kinds = (tables.NAME, tables.NAME, tables.TEXT)
    headings = ("finding", "verdict", "claim and measurements")
    columns = dict(zip(headings, kinds, strict=True))
    tables.print_table("Verdicts", columns, VERDICTS, is_grouped=True)


def print_status():
    names = dict.fromkeys(("program", "state", "process or job"), tables.NAME)
    columns = {**names, "step": tables.NUMBER, "last said": tables.TEXT}
    tables.print_table("Status", columns, iter(STATUS))


PRINTED = {
    "facts": (lambda: tables.print_facts("Data", FACTS), [*FACTS, *FACTS.values()]),
    "evaluations": (
        lambda: tables.print_evaluations(EVALUATIONS, "step 40"),
        [
            "predicts the class's own label",
            "closed accuracy",
            "loss",
            *EVALUATIONS,
            "0.500 [0.432, 0.679]",
        ],
    ),
    "verdicts": (print_verdicts, [cell for row in VERDICTS for cell in row]),
    "status": (print_status, list(STATUS[0])),
}


def columns_of(text):
    """The text of each column of a table, and of lines outside tables, without spaces."""
    found = {}
    for line in text.splitlines():
        cells = re.split("[│┃]", line)[1:-1] or [line]
        for index, cell in enumerate(cells):
            found[index, len(cells)] = found.get((index, len(cells)), "") + cell
    return [re.sub(r"\s", "", column) for column in found.values()]


@pytest.mark.parametrize("kind", PRINTED)
@pytest.mark.parametrize("width", [*range(20, 64, 3), 70, 80, 100, 120, 160, 200])
def test_no_width_loses_a_value(kind, width, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", str(width))
    for module in (tables, console):
        monkeypatch.setattr(module, "CONSOLE", Console(soft_wrap=True, **console.PLAIN))
    show, values = PRINTED[kind]
    show()
    columns = columns_of(capsys.readouterr().out)
    for value in values:
        assert any(re.sub(r"\s", "", value) in column for column in columns), value
