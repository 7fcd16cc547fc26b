"""Compare runs: learning curves, final accuracies, and differing options.

python -m experiments.compare RUN RUN ... [--output=comparison.pdf]

RUN is the folder of a run; all replicas in it are compared. Nothing is evaluated.
"""

from collections.abc import Sequence
from pathlib import Path

from emergent_icl.cli import console, tables
from emergent_icl.cli.flags import output_flag
from emergent_icl.plots import style
from emergent_icl.plots.comparison import compare

_output = output_flag()
TITLES = ("Last evaluation, with 95% intervals over sequences", "Options that differ")


def main(argv: Sequence[str]) -> None:
    """Prints the tables, then writes the figure."""
    if len(argv) < 2:
        console.fail("compare needs the folders of the runs: compare RUN RUN ...", 2)
    with console.command(argv[:1], style.FigureError):
        output = _output() or Path("comparison.png")
        style.check_format(output)
        found = compare(argv[1:])
        for title, rows in zip(TITLES, found.tables(), strict=False):
            headings = next(iter(rows.values()))
            columns = {name: [row[name] for row in rows.values()] for name in headings}
            tables.print_columns(title, list(rows), columns)
        console.write(output, lambda: found.save(output))
