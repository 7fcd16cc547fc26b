"""Flags: those that commands share, extensions, presets by name, and how all of them are parsed.

A command calls for the shared flags that it reads, so that it takes and lists no others. absl's
flags belong to the whole process: one that is called for twice is the same.

ml_collections stops at the first override of a config, `--config.x.y=z`, that it cannot take; here
it is asked one override at a time, and all problems are told at once.
"""

from __future__ import annotations

import functools
import importlib
import itertools
import pkgutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import ml_collections
from absl import flags
from ml_collections import config_flags

from emergent_icl import presets
from emergent_icl.cli.console import fail
from emergent_icl.config import options
from emergent_icl.config.check import OPTIMIZER_OPTIONS, ConfigError
from emergent_icl.config.configs import flatten
from emergent_icl.config.registry import nearest_options, unknown_name
from emergent_icl.runs.check import check

# Every command has it. Here for --help: its value is read before flags are parsed, because those
# may speak of what is registered.
EXTENSIONS = flags.DEFINE_list(
    "extensions",
    [],
    "Modules to import first: what they register can be named (docs/extending.md).",
)


@functools.cache
def config_flag() -> flags.FlagHolder:
    """--config."""
    return config_flags.DEFINE_config_file(
        "config", help_string="FILE[:preset] of the experiment, or the NAME[:preset] of a preset."
    )


@functools.cache
def workdir_flag() -> flags.FlagHolder[str]:
    """--workdir."""
    return flags.DEFINE_string(
        "workdir", None, "Folder of the run, or of the sweep.", required=True
    )


@functools.cache
def step_flag() -> flags.FlagHolder[int | None]:
    """--step."""
    return flags.DEFINE_integer("step", None, "Checkpoint to open; default: the newest.")


@functools.cache
def replica_flag() -> flags.FlagHolder[str | None]:
    """--replica."""
    return flags.DEFINE_string(
        "replica", None, "Name of the replica to open, where several were trained together."
    )


@functools.cache
def data_flags() -> Callable[[], dict[str, str]]:
    """--data_dir and --features_path; returns what gives them as overrides of a run's config."""
    places = {
        "data.data_dir": flags.DEFINE_string(
            "data_dir", None, "Folder of the TFDS datasets, where the run's config names another."
        ),
        "data.features.path": flags.DEFINE_string(
            "features_path", None, "File of feature vectors, where the run's config names another."
        ),
    }
    return lambda: {path: flag.value for path, flag in places.items() if flag.value is not None}


class _Given(NamedTuple):
    """A flag as typed: the index of its first word, its words, one or two; no value if bare."""

    index: int
    words: tuple[str, ...]
    name: str
    value: str | None


def parse_flags(argv: Sequence[str]) -> list[str]:
    """Parses flags for `app.run`; what is wrong is said without a traceback."""
    try:
        _import_extensions(argv)
        argv = _with_files_of_presets(argv)
        if "config" in flags.FLAGS and (problems := find_problems(argv)):
            fail(str(ConfigError(problems)), 2)
        rest = flags.FLAGS(argv)
        if "config" in flags.FLAGS and flags.FLAGS.config is not None:
            # A file that is not there is only reported when its config is first used.
            _ = flags.FLAGS.config.is_locked
        return rest
    except (KeyError, AttributeError) as error:
        # ml_collections' own message, with the nearest name, without the quotes of a key.
        message = "unknown option " + " ".join(str(error.args[0]).replace('"', "").split())
    except OSError as error:  # The config file was not found: one line a place, all the same.
        where = f"{error.strerror}: {error.filename}" if error.filename else str(error)
        message = where.splitlines()[-1].strip()
    except flags.Error as error:
        # A config file that raises arrives as a traceback in text; its last line says why.
        lines = [line.strip() for line in str(error).splitlines()]
        lines = [line for line in lines if line and not line.startswith("Pass --help")]
        message = lines[-1] if any("Traceback" in line for line in lines) else " ".join(lines)
    fail(message, 2)


def find_problems(argv: Sequence[str]) -> list[str]:
    """What is wrong with the overrides of a config on a command line; empty if nothing is.

    If there are unknown options or values of a wrong type, what else is wrong with the config is
    listed too; otherwise that is left to the command's own validation.

    Raises:
      flags.Error, OSError: the config file itself cannot be loaded.
    """
    given = list(_given(argv))
    files = [one.value for one in given if one.name == "config"]
    overrides = [
        one._replace(name=one.name.partition(".")[2])
        for one in given
        if one.name.startswith(("config.", "noconfig."))
    ]
    if not overrides:
        return []
    if not files or files[-1] is None:
        return [f"{overrides[0].name} is given, but no --config=FILE whose option it is"]
    known = flatten(_load(files[-1]).to_dict())
    found = [_problem(one, known, files[-1]) for one in overrides]
    problems = [problem for problem in found if problem]
    if problems:
        good = [one for one, problem in zip(overrides, found, strict=True) if not problem]
        try:
            check(_load(files[-1], good))
        except ConfigError as error:
            problems += error.problems
        except (flags.Error, KeyError, ValueError, TypeError):
            pass  # What was found already says enough.
    return problems


def _problem(override: _Given, known: dict[str, object], config_file: str) -> str | None:
    path = override.name
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


def _load(config_file: str, overrides: Iterable[_Given] = ()) -> ml_collections.ConfigDict:
    """The config with some overrides, as ml_collections parses them."""
    argv = ["_", f"--config={config_file}", *(word for one in overrides for word in one.words)]
    values = flags.FlagValues()
    holder = config_flags.DEFINE_config_file("config", flag_values=values, sys_argv=argv)
    values(argv)
    return holder.value


def _given(argv: Sequence[str]) -> Iterator[_Given]:
    """Every flag of a command line, by its name without dashes."""
    pairs = itertools.zip_longest(argv[1:], argv[2:], fillvalue="-")
    for index, (word, following) in enumerate(pairs, start=1):
        name, is_joined, value = word.partition("=")
        name = name.lstrip("-")
        if not word.startswith("-"):
            continue
        if is_joined:
            yield _Given(index, (word,), name, value)
        elif following.startswith("-"):
            yield _Given(index, (word,), name, None)
        else:
            yield _Given(index, (word, following), name, following)


def _import_extensions(argv: Sequence[str]) -> None:
    for given in _given(argv):
        names = (given.value or "").split(",") if given.name == "extensions" else ()
        for name in filter(None, names):
            try:
                importlib.import_module(name)
            except Exception as error:  # Whatever the user's own module raises.
                reason = f"{type(error).__name__}: {error}"
                raise flags.Error(f"--extensions: {name} cannot be imported ({reason})") from error


def _with_files_of_presets(argv: Sequence[str]) -> list[str]:
    """The command line, with `--config=NAME[:preset]` as `--config=FILE[:preset]`."""
    words = list(argv)
    for index, given, name, value in _given(argv):
        if name == "config" and value:
            last = index + len(given) - 1
            words[last] = given[-1].removesuffix(value) + _file_of_preset(value)
    return words


def _file_of_preset(where: str) -> str:
    """FILE[:preset] of what may be NAME[:preset]: presets have no other place where installed."""
    name, colon, preset = where.partition(":")
    if not name.isidentifier() or Path(name).exists():
        return where
    names = [module.name for module in pkgutil.iter_modules(presets.__path__)]
    if name not in names:
        raise flags.Error(f"--config={where} is no file, and {unknown_name('preset', name, names)}")
    return f"{Path(presets.__path__[0], name)}.py{colon}{preset}"
