"""Prints every option of every experiment: default, allowed values, meaning.

python -m experiments.options [--filter=burst]

Without a filter: the Markdown of docs/options.md.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence

from absl import flags

from emergent_icl.cli import console, option_table

_FILTER = flags.DEFINE_string(
    "filter", None, "Print only the options whose path or meaning contains this, as a plain table."
)


def main(argv: Sequence[str]) -> None:
    """Prints the page, or what the filter leaves of it."""
    console.refuse_leftovers(argv)
    if _FILTER.value is None:
        print(option_table.markdown(), end="")
        return
    found = option_table.matching(_FILTER.value)
    if not found:
        sys.exit(f"error: no option's path or meaning contains '{_FILTER.value}'")
    print(option_table.plain(found, shutil.get_terminal_size().columns))
