"""Flags: those that commands share, extensions, presets by name, and how all of them are parsed.

A command calls for the shared flags that it reads, so that it takes and lists no others. absl's
flags belong to the whole process: one that is called for twice is the same.
"""

from __future__ import annotations

import functools
import importlib
import pkgutil
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from absl import flags
from ml_collections import config_flags

from emergent_icl import presets
from emergent_icl.cli import overrides
from emergent_icl.cli.console import say_error
from emergent_icl.config.check import ConfigError
from emergent_icl.config.registry import unknown_name

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


def parse_flags(argv: Sequence[str]) -> list[str]:
    """Parses flags for `app.run`; what is wrong is said without a traceback."""
    try:
        _import_extensions(argv)
        argv = _with_files_of_presets(argv)
        if "config" in flags.FLAGS and (problems := overrides.find_problems(argv)):
            say_error(str(ConfigError(problems)))
            sys.exit(2)
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
        lines = [
            line.strip()
            for line in str(error).splitlines()
            if line.strip() and not line.startswith("Pass --help")
        ]
        message = lines[-1] if any("Traceback" in line for line in lines) else " ".join(lines)
    say_error(message)
    sys.exit(2)


def _given(argv: Sequence[str], flag: str) -> Iterator[tuple[int, str, str]]:
    """Wherever a flag has a value: which word holds it, what stands before it there, the value."""
    for index, word in enumerate(argv):
        name, is_joined, value = word.partition("=")
        if name in (f"-{flag}", f"--{flag}"):
            if is_joined:
                yield index, f"{name}=", value
            elif index + 1 < len(argv):
                yield index + 1, "", argv[index + 1]


def _import_extensions(argv: Sequence[str]) -> None:
    for _, _, names in _given(argv, "extensions"):
        for name in filter(None, names.split(",")):
            try:
                importlib.import_module(name)
            except Exception as error:  # Whatever the user's own module raises.
                reason = f"{type(error).__name__}: {error}"
                raise flags.Error(f"--extensions: {name} cannot be imported ({reason})") from error


def _with_files_of_presets(argv: Sequence[str]) -> list[str]:
    """The command line, with `--config=NAME[:preset]` as `--config=FILE[:preset]`."""
    words = list(argv)
    for index, before, value in _given(argv, "config"):
        words[index] = before + _file_of_preset(value)
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
