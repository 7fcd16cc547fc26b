"""Compare runs: their learning curves in one figure, their ends and differing options in tables.

python -m experiments.compare RUN RUN ... [--output=comparison.pdf]

RUN is the folder of a run; all replicas in it are compared. Nothing is evaluated.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from absl import flags

from emergent_icl.cli import console, tables
from emergent_icl.plots import style
from emergent_icl.plots.comparison import compare

_OUTPUT = flags.DEFINE_string(
    "output", "comparison.png", f"Figure to write: {', '.join(style.FORMATS)}."
)


def main(argv: Sequence[str]) -> None:
    """Prints the tables, then writes the figure."""
    if len(argv) < 2:
        console.fail("compare needs the folders of the runs: compare RUN RUN ...", 2)
    with console.command(argv[:1], style.FigureError):
        output = Path(_OUTPUT.value).expanduser()
        style.check_format(output)
        found = compare(argv[1:])
        runs, columns = list(found.ends), list(next(iter(found.ends.values())))
        cells = {name: [_text(end[name]) for end in found.ends.values()] for name in columns}
        tables.print_columns("Ends, with 95 % intervals over sequences", runs, cells, "run")
        if found.options:
            values = {run: [str(one[run]) for one in found.options.values()] for run in runs}
            tables.print_columns("Options that differ", list(found.options), values, "option")
        console.say(f"Written: {found.save(output)}")


def _text(value: object) -> str:
    return tables.cell(value) if value is None or isinstance(value, float) else str(value)
