"""List every option with its default, allowed values, and meaning.

python -m experiments.options [--filter=burst]

Without a filter: the Markdown of docs/options.md.
"""

import itertools
import shutil
import textwrap
from collections.abc import Iterable, Mapping, Sequence

from absl import flags

from emergent_icl.cli import console
from emergent_icl.config.options import OPTIONS, SECTIONS
from emergent_icl.config.rules import Option

# Fills the registries, whose names are allowed values of options.
from emergent_icl.runs import check as _filled  # noqa: F401

_FILTER = flags.DEFINE_string(
    "filter", None, "Print only options whose path or meaning contains this, as a plain table."
)

_INTRODUCTION = """\
# Options

*Generated from [emergent_icl/config/options.py](../emergent_icl/config/options.py) by `make docs`,
that is `python -m experiments.options > docs/options.md`. To change this page, change that file
or run_options.py beside it.*

Every option, with its default, allowed values, and meaning. The defaults are the paper's setting,
as far as one file can represent it. Presets ([experiments/configs](../experiments/configs)) change
some of them, and so does the command line, where names need no quotes but tuples do:

```sh
emergent-icl train --config=omniglot:small --workdir=runs/mine \\
    --config.data.drawings=single --config.data.sequences.p_bursty=0.5 \\
    --config.evaluation.modes="('fewshot_holdout', 'fewshot_rare')"
```

An option that is `none` has the meaning that its row states, usually a value derived from others.
To unset it: `--config.evaluation.ways=none`. The optimizer's keyword arguments are options, too:
`--config.training.optimizer.options.b1=0.8`. To search in a terminal:
`emergent-icl options --filter=burst`.
"""


def main(argv: Sequence[str]) -> None:
    """Prints the page, or the options that match the filter."""
    with console.command(argv):
        if _FILTER.value is None:
            print(markdown(), end="")
        elif found := matching(_FILTER.value):
            print(plain(found, shutil.get_terminal_size().columns))
        else:
            console.fail(f"no option's path or meaning contains '{_FILTER.value}'")


def matching(word: str) -> dict[str, Option]:
    """Options whose path or meaning contains a word, in any case."""
    word = word.lower()
    return {p: option for p, option in OPTIONS.items() if word in f"{p}\n{option.help}".lower()}


def plain(options: Mapping[str, Option], width: int) -> str:
    """Options in two columns, `width` characters wide in total."""
    left = 2 + max(len(f"--config.{path}") for path in options)
    # Wrapped lines read better than a column of single words.
    width = max(width, left + 32)

    def entry(path: str, option: Option) -> str:
        facts = f"default {_default(option)}; {option.rule.text}"
        first, others = f"--config.{path}".ljust(left), " " * left
        meaning = textwrap.fill(option.help, width, initial_indent=first, subsequent_indent=others)
        return f"{meaning}\n{textwrap.indent(textwrap.fill(facts, width - left), others)}"

    return "\n\n".join(entry(path, option) for path, option in options.items())


def markdown() -> str:
    """The whole page: an introduction and a table per section."""
    sections = itertools.groupby(OPTIONS.items(), key=lambda item: item[0].rpartition(".")[0])
    return "\n".join([_INTRODUCTION, *(_section(name, options) for name, options in sections)])


def _section(name: str, options: Iterable[tuple[str, Option]]) -> str:
    head = [f"## {name or 'The experiment'}", ""]
    if name in SECTIONS:
        head += [SECTIONS[name], ""]
    head += ["| option | default | allowed | meaning |", "| --- | --- | --- | --- |"]
    rows = (
        f"| `--config.{path}` | `{_default(option)}` | {_cell(option.rule.text)} "
        f"| {_cell(option.help)} |"
        for path, option in options
    )
    return "\n".join([*head, *rows, ""])


def _default(option: Option) -> str:
    return "none" if option.default is None else repr(option.default)


def _cell(text: str) -> str:
    """Escapes Markdown's stars and bars."""
    return text.replace("*", r"\*").replace("|", r"\|")
