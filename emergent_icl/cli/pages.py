"""Update the tables of Markdown pages from the results.json of a reproduction.

python -m experiments.pages --results=docs/reproduction/results.json README.md docs/reproduction.md

Replaces the text between '<!-- results: NAME -->' and '<!-- /results -->'. Pictures are expected
beside results.json.
"""

import os
from collections.abc import Sequence
from pathlib import Path

from absl import flags

from emergent_icl.cli import console
from emergent_icl.plots.report import fill
from emergent_icl.runs.workdir import read_object, write_whole

_RESULTS = flags.DEFINE_string("results", None, "results.json of a reproduction.", required=True)


def main(argv: Sequence[str]) -> None:
    """Rewrites the pages."""
    with console.command(argv[:1], ValueError):
        if not argv[1:]:
            raise ValueError("name the Markdown pages to update after --results=FILE")
        for path in map(Path, argv[1:]):
            write_whole(path, filled(path, Path(_RESULTS.value).expanduser()))


def filled(page: Path, results: Path) -> str:
    """The updated text of a page; raises ValueError for bad JSON or an unknown block."""
    content = read_object(results, "results.json")
    if lacking := {"sweeps", "verdicts"} - content.keys():
        raise ValueError(f"{results} lacks {', '.join(sorted(lacking))}: is it a results.json?")
    pictures = os.path.relpath(results.parent, page.parent)
    try:
        return fill(page.read_text(encoding="utf-8"), content, Path(pictures).as_posix())
    except ValueError as error:
        raise ValueError(f"{page}: {error}") from error
