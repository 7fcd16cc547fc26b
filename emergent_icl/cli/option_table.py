"""Every option of experiments/configs/base.py as a table: default, allowed values, meaning.

The meaning of an option is the comment that stands above it in that file; comments are no
part of Python's syntax tree, so tree and comments are read apart and joined by line.
"""

from __future__ import annotations

import ast
import functools
import inspect
import io
import itertools
import textwrap
import tokenize
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from emergent_icl.config.rules import rules
from emergent_icl.presets import base

# A subtree of the config is made by this, or by another function of the file.
_SECTION_MAKER = "ConfigDict"

_INTRODUCTION = """\
# Options

*Made from [experiments/configs/base.py](../experiments/configs/base.py) by `make docs`, that is
`python -m experiments.options > docs/options.md`. To change this page, change that file.*

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


class Option(NamedTuple):
    """One option of the base config.

    Attributes:
      path: in the config, as 'data.split.seed'.
      default: its value in the base config, as Python writes it.
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


def read_options() -> list[Option]:
    """Every option of the base config, in the order of the file."""
    config, allowed = base.get_config(), rules()
    values = {path: _value(config, path) for path in _comments_of_base()}
    return [
        Option(path, _default(values[path]), allowed[path].text, comment)
        for path, comment in _comments_of_base().items()
        # An empty section is an option: the keyword arguments of something.
        if not (isinstance(values[path], ConfigDict) and values[path])
    ]


def matching(options: Sequence[Option], word: str) -> list[Option]:
    """The options whose path or meaning contains a word, in upper or lower case."""
    word = word.lower()
    return [option for option in options if word in f"{option.path}\n{option.meaning}".lower()]


def markdown() -> str:
    """The whole page: an introduction, and a table for each section."""
    notes = _comments_of_base()
    sections = itertools.groupby(read_options(), key=lambda option: option.section)
    tables = (_section(name, notes.get(name, ""), options) for name, options in sections)
    return "\n".join([_INTRODUCTION, *tables])


def plain(options: Sequence[Option], width: int) -> str:
    """Options for a terminal: two columns, the flag and what it is.

    Args:
      options: in order.
      width: of the terminal, in characters.
    """
    left = 2 + max(len(option.flag) for option in options)
    # A narrow terminal wraps lines by itself, and better than a column of one word each.
    right = max(width - left, 32)

    def entry(option: Option) -> str:
        facts = f"default {option.default}; {option.allowed}"
        lines = textwrap.wrap(option.meaning, right) + textwrap.wrap(facts, right)
        flags = [option.flag, *[""] * (len(lines) - 1)]
        return "\n".join(f"{flag:<{left}}{line}" for flag, line in zip(flags, lines, strict=True))

    return "\n\n".join(entry(option) for option in options)


def comments(source: str, function: str = "get_config") -> dict[str, str]:
    """Path of every option and section -> the comment above it, in the order of a source.

    A comment also holds for the options on the lines right below the first one, up to the next
    comment, blank line or section. A section without a comment has the docstring of the
    function that makes it.

    Args:
      source: of a config file.
      function: that makes the whole config.
    """
    definitions = {
        node.name: node for node in ast.parse(source).body if isinstance(node, ast.FunctionDef)
    }
    return dict(_assignments(definitions[function], "", definitions, _comment_lines(source)))


@functools.cache
def _comments_of_base() -> dict[str, str]:
    return comments(inspect.getsource(base))


def _assignments(
    function: ast.FunctionDef,
    prefix: str,
    definitions: dict[str, ast.FunctionDef],
    lines: dict[int, str],
) -> Iterator[tuple[str, str]]:
    """(path, comment) of everything that a function, and those that it calls, assign."""
    # The comment that the next line inherits, and the number of that line.
    inherited, next_line = "", 0
    for statement in function.body:
        path = _assigned_path(statement)
        if not path:
            continue
        own = _comment_above(statement.lineno, lines)
        maker = _called(statement)
        if maker == _SECTION_MAKER or maker in definitions:
            inherited = ""
            made_by = definitions.get(maker)
            docstring = made_by and ast.get_docstring(made_by)
            yield prefix + path, own or docstring or ""
            if made_by:
                yield from _assignments(made_by, f"{prefix}{path}.", definitions, lines)
        else:
            inherited = own or (inherited if statement.lineno == next_line else "")
            yield prefix + path, inherited
        next_line = (statement.end_lineno or statement.lineno) + 1


def _assigned_path(statement: ast.stmt) -> str:
    """'split.seed' for `data.split.seed = ...`; '' for anything else."""
    if not isinstance(statement, ast.Assign):
        return ""
    names, node = [], statement.targets[0]
    while isinstance(node, ast.Attribute):
        names.append(node.attr)
        node = node.value
    return ".".join(reversed(names))


def _called(statement: ast.stmt) -> str | None:
    """Name of the function whose result is assigned, if it is one."""
    value = getattr(statement, "value", None)
    is_call = isinstance(value, ast.Call) and isinstance(value.func, ast.Name)
    return value.func.id if is_call else None


def _comment_lines(source: str) -> dict[int, str]:
    """Line number -> text, of the lines that hold nothing but a comment."""
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    return {
        token.start[0]: token.string.lstrip("# ")
        for token in tokens
        if token.type == tokenize.COMMENT and token.line.lstrip().startswith("#")
    }


def _comment_above(line: int, lines: dict[int, str]) -> str:
    """The block of comment lines that ends right above a line, as one paragraph."""
    above = itertools.takewhile(lambda number: number in lines, itertools.count(line - 1, -1))
    return " ".join(reversed([lines[number] for number in above]))


def _value(config: ConfigDict, path: str) -> Any:
    return functools.reduce(lambda section, name: section[name], path.split("."), config)


def _default(value: Any) -> str:
    if value is None:
        return "unset"
    return repr(value.to_dict() if isinstance(value, ConfigDict) else value)


def _section(name: str, note: str, options: Iterable[Option]) -> str:
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
