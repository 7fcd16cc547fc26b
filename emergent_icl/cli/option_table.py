"""Every option as a table: default, allowed values, meaning."""

from __future__ import annotations

import itertools
import textwrap
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from emergent_icl.config.options import OPTIONS, SECTIONS

# Fills the registries, whose names are allowed values.
from emergent_icl.runs import check as _filled  # noqa: F401

_INTRODUCTION = """\
# Options

*Made from [emergent_icl/config/options.py](../emergent_icl/config/options.py) by `make docs`,
that is `python -m experiments.options > docs/options.md`. To change this page, change that file.*

Every option of every experiment. The defaults are the paper's setting, as far as a single file
can have one; the other files of [experiments/configs](../experiments/configs) change some of
them, and so does the command line. Names need no quotes there, a tuple does:

```
python -m experiments.train --config=experiments/configs/omniglot.py:small --workdir=runs/mine \\
    --config.data.drawings=single --config.data.sequences.p_bursty=0.5 \\
    --config.evaluation.modes="('fewshot_holdout', 'fewshot_rare')"
```

An option that is unset is derived from the others. To search in a terminal:
`python -m experiments.options --filter=burst`.
"""


class Row(NamedTuple):
    """One option as the table shows it.

    Attributes:
      path: in the config, as 'data.split.seed'.
      default: its value, as Python writes it.
      allowed: its values in words, after "must be".
      meaning: what it is.
    """

    path: str
    default: str
    allowed: str
    meaning: str

    @property
    def flag(self) -> str:
        """The option on a command line."""
        return f"--config.{self.path}"

    @property
    def section(self) -> str:
        """Path of the section that it stands in; '' for the config itself."""
        return self.path.rpartition(".")[0]


def rows() -> list[Row]:
    """Every option of the package, in the order of the table."""
    return [
        Row(path, _default(option.default), option.rule.text, option.help)
        for path, option in OPTIONS.items()
    ]


def matching(options: Sequence[Row], word: str) -> list[Row]:
    """The options whose path or meaning contains a word, in upper or lower case."""
    word = word.lower()
    return [option for option in options if word in f"{option.path}\n{option.meaning}".lower()]


def markdown() -> str:
    """The whole page: an introduction, and a table for each section."""
    sections = itertools.groupby(rows(), key=lambda row: row.section)
    tables = (_section(name, SECTIONS.get(name, ""), inside) for name, inside in sections)
    return "\n".join([_INTRODUCTION, *tables])


def plain(options: Sequence[Row], width: int) -> str:
    """Options for a terminal: two columns, the flag and what it is.

    Args:
      options: in order.
      width: of the terminal, in characters.
    """
    left = 2 + max(len(option.flag) for option in options)
    # A narrow terminal wraps lines by itself, and better than a column of one word each.
    right = max(width - left, 32)

    def entry(row: Row) -> str:
        facts = f"default {row.default}; {row.allowed}"
        lines = textwrap.wrap(row.meaning, right) + textwrap.wrap(facts, right)
        flags = [row.flag, *[""] * (len(lines) - 1)]
        return "\n".join(f"{flag:<{left}}{line}" for flag, line in zip(flags, lines, strict=True))

    return "\n\n".join(entry(option) for option in options)


def _default(value: Any) -> str:
    return "unset" if value is None else repr(value)


def _section(name: str, note: str, options: Iterable[Row]) -> str:
    rows = (
        f"| `{option.flag}` | `{option.default}` | {_cell(option.allowed)} "
        f"| {_cell(option.meaning)} |"
        for option in options
    )
    head = [f"## {name or 'The experiment'}", "", *([note, ""] if note else [])]
    head += ["| option | default | allowed | meaning |", "| --- | --- | --- | --- |"]
    return "\n".join([*head, *rows, ""])


def _cell(text: str) -> str:
    """Text whose stars and bars mean nothing to Markdown."""
    return text.replace("*", r"\*").replace("|", r"\|")
