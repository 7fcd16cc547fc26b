"""Options of the config on a command line, `--config.x.y=z`: every problem of them at once.

ml_collections stops at the first one. What it accepts is asked of it, one override at a time.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import ml_collections
from absl import flags
from ml_collections import config_flags

from emergent_icl.config import options
from emergent_icl.config.check import OPTIMIZER_OPTIONS, ConfigError
from emergent_icl.config.configs import flatten
from emergent_icl.config.registry import nearest_options
from emergent_icl.runs.check import check

_OVERRIDE = re.compile(r"--?(?:no)?config\.(?P<path>[^=]+)(?:=(?P<value>.*))?", re.DOTALL)
_FILE = re.compile(r"--?config(?:=(?P<file>.*))?$", re.DOTALL)


class Override(NamedTuple):
    """One option as it stands on the command line.

    Attributes:
      words: of the command line, one or two.
      path: of the option.
      value: as typed; None for a bare --config.flag.
    """

    words: tuple[str, ...]
    path: str
    value: str | None


def find_problems(argv: Sequence[str]) -> list[str]:
    """What is wrong with the overrides of a command line; empty if nothing is.

    Unknown options come with the nearest valid names, wrong types with what is allowed.
    If there are any, out-of-range values and contradictions of the other overrides are
    listed too; otherwise they are left to the launcher's own validation.

    Raises:
      flags.Error, OSError: the config file itself cannot be loaded.
    """
    config_file, overrides = _read(argv)
    if not overrides:
        return []
    if config_file is None:
        return [f"{overrides[0].path} is given, but no --config=FILE whose option it is"]
    known = flatten(_load(config_file, ()).to_dict())
    problems, good = [], []
    for override in overrides:
        problem = _problem(override, known, config_file)
        if problem is None:
            good.append(override)
        else:
            problems.append(problem)
    if problems:
        try:
            check(_load(config_file, good))
        except ConfigError as error:
            problems += error.problems
        except (flags.Error, KeyError, ValueError, TypeError):
            pass  # What was found already says enough.
    return problems


def _read(argv: Sequence[str]) -> tuple[str | None, list[Override]]:
    """The config file of a command line, and its overrides in order."""
    config_file, overrides = None, []
    for word, following in itertools.zip_longest(argv[1:], argv[2:], fillvalue="--"):
        separate = None if following.startswith("-") else following
        if match := _FILE.fullmatch(word):
            config_file = separate if match["file"] is None else match["file"]
        elif match := _OVERRIDE.fullmatch(word):
            if match["value"] is None and separate is not None:
                overrides.append(Override((word, separate), match["path"], separate))
            else:
                overrides.append(Override((word,), match["path"], match["value"]))
    return config_file, overrides


def _problem(override: Override, known: dict[str, object], config_file: str) -> str | None:
    path = override.path
    if path not in known:
        return f"{path} is not an option{_advice(path, known)}"
    try:
        _load(config_file, (override,))
    except (flags.Error, ValueError, TypeError, KeyError):
        option = options.known().get(path)
        allowed = f" must be {option.rule.text}" if option else " is of the wrong type"
        return f"{path} = {override.value!r}{allowed}"
    return None


def _advice(path: str, known: dict[str, object]) -> str:
    if path.startswith(OPTIMIZER_OPTIONS):
        return f": {OPTIMIZER_OPTIONS} can be set in a config file only"
    inside = [name for name in known if name.startswith(f"{path}.")]
    if inside:
        return f" but a section; its options are {', '.join(inside)}"
    return nearest_options(path, known)


def _load(config_file: str, overrides: Sequence[Override]) -> ml_collections.ConfigDict:
    """The config with some overrides, as ml_collections parses them."""
    argv = ["_", f"--config={config_file}", *_words(overrides)]
    values = flags.FlagValues()
    holder = config_flags.DEFINE_config_file("config", flag_values=values, sys_argv=argv)
    values(argv)
    return holder.value


def _words(overrides: Sequence[Override]) -> Iterator[str]:
    return (word for override in overrides for word in override.words)
