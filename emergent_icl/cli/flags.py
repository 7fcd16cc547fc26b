"""Flags: those that commands share, extensions, overrides, and how all of them are parsed.

A command defines only the shared flags that it reads, so that it accepts and lists no others.
absl's flags belong to the whole process, so each is defined once.

Overrides `--config.x.y=z` are parsed here by the types that the table of options declares, so that
all problems are reported at once. absl never sees them.
"""

from __future__ import annotations

import ast
import functools
import importlib
import os
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import ml_collections
from absl import app, flags

from emergent_icl import presets
from emergent_icl.cli.console import fail
from emergent_icl.config import options
from emergent_icl.config.check import ConfigError
from emergent_icl.config.configs import flatten
from emergent_icl.data.sequences.split import read_split

# Defined for --help: its value is read before flags are parsed, which may name what it registers.
EXTENSIONS = flags.DEFINE_list(
    "extensions",
    [],
    "Modules to import first, to use what they register (docs/extending.md).",
)


@functools.cache
def config_flag() -> flags.FlagHolder:
    """--config, and --split for a part of it; its value is the config, overrides included."""
    flags.DEFINE_string(
        "split", None, "JSON file with lists for data.split.rare, common or holdout of --config: "
        '{"holdout": ["Angelic", 17, ...], ...}. The config keeps them; the file is not needed '
        "again.",
    )  # fmt: skip
    return flags.DEFINE_string(
        "config",
        None,
        f"The experiment: NAME[:preset] of a preset ({', '.join(presets.NAMES)}), "
        "FILE.py[:preset] with a function get_config, or the config.json of a run. "
        "--config.OPTION=VALUE changes an option; VALUE 'none' unsets one that may be unset. "
        "The command 'options' lists all options.",
    )


@functools.cache
def workdir_flag() -> flags.FlagHolder[str]:
    """--workdir."""
    return flags.DEFINE_string("workdir", None, "Folder of the run or sweep.", required=True)


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
def output_flag() -> Callable[[], Path | None]:
    """--output; returns a function that gives its path, or None."""
    flag = flags.DEFINE_string(
        "output", None, "Where to write. evaluate: a JSON file, inspect_run: a folder (default: in "
        "the folder of the run); compare: a figure (default: comparison.png).",
    )  # fmt: skip
    return lambda: None if flag.value is None else Path(flag.value).expanduser()


@functools.cache
def data_flags() -> Callable[[], dict[str, str]]:
    """Flags for where data are; returns what gives them as overrides of a run's config."""
    places = {
        "data.data_dir": flags.DEFINE_string(
            "data_dir", None, "Folder of the TFDS datasets, where the run's config names another."
        ),
        "data.images.path": flags.DEFINE_string(
            "images_path", None, "Folder or file of images, where the run's config names another."
        ),
        "data.features.path": flags.DEFINE_string(
            "features_path", None, "File of feature vectors, where the run's config names another."
        ),
    }
    return lambda: {path: flag.value for path, flag in places.items() if flag.value is not None}


# Flags that are read before absl parses the command line: name and, if given, value.
_READ = re.compile(r"--?(extensions|config|(?:no)?config\.[^=]+)(?:=(.*))?", re.DOTALL)
_OVERRIDES = ("--config.", "-config.", "--noconfig.", "-noconfig.")
_HELP = {"--help", "-help", "-h"}


def parse_flags(argv: Sequence[str]) -> list[str]:
    """Parses flags for `app.run`; what is wrong is said without a traceback."""
    try:
        argv = _joined([argv[0], *flags.FLAGS.read_flags_from_files(argv[1:], force_gnu=False)])
        _import_extensions(argv)
        if not _HELP.isdisjoint(argv):
            app.usage(shorthelp=True, writeto_stdout=True)
            sys.exit(0)
        if "config" not in flags.FLAGS:
            return flags.FLAGS(argv)
        config = config_of(argv)
        rest = flags.FLAGS([word for word in argv if not word.startswith(_OVERRIDES)])
        if flags.FLAGS.split is not None:
            _take_split(config, flags.FLAGS.split)
        flags.FLAGS["config"].value = config
        return rest
    except ConfigError as error:
        message = str(error)
    except OSError as error:
        message = f"{error.strerror}: {error.filename}"
    except flags.Error as error:
        message = " ".join(str(error).split())
    fail(message, 2)


def config_of(argv: Sequence[str]) -> ml_collections.ConfigDict | None:
    """The config of a command line, locked, with its overrides; None where it names no config.

    A value of a wrong type is kept as text, for `check` to refuse.

    Raises:
      ConfigError: the config cannot be loaded, or there are unknown options; lists every problem.
      flags.Error: an option has no value.
    """
    where, texts = None, {}
    for match in filter(None, map(_READ.fullmatch, _joined(argv))):
        name, _, path = match[1].partition(".")
        if path:
            texts[path] = "false" if name == "noconfig" else match[2]
        elif name == "config":
            where = match[2] or ""
    if where is None:
        if texts:
            wrong = f"{next(iter(texts))} is given, but no --config=FILE whose option it is"
            raise ConfigError([wrong])
        return None
    config = presets.load(where)
    current = flatten(config.to_dict())
    return presets.override(
        config, {path: parsed(path, text, current.get(path)) for path, text in texts.items()}
    )


def parsed(path: str, text: str | None, current: Any = None) -> Any:
    """The value that a text means for an option, 'none' for None; otherwise the text."""
    # The type is that of the default, or of the current value where nothing declares the option.
    option = options.known().get(path)
    kind = type(current if option is None else option.default)
    if text is None and kind is not bool:
        raise flags.Error(f"--config.{path} needs a value")
    if text is None or kind is str:
        return True if text is None else text
    try:
        is_name = text.lower() in ("true", "false", "none")
        value = ast.literal_eval(text.capitalize() if is_name else text)
    except (ValueError, SyntaxError):
        value = text
    if (kind is bool and value in (0, 1)) or (kind is float and type(value) is int):
        return kind(value)
    if kind is not tuple or isinstance(value, tuple):
        return value
    return tuple(value) if isinstance(value, list | set) else (value,)


def _take_split(config: ml_collections.ConfigDict | None, path: str) -> None:
    """Gives a config the lists of a file."""
    if config is None:
        raise ConfigError([f"--split={path} needs the --config whose lists it gives"])
    with config.unlocked():
        config.data.split.update(read_split(Path(os.path.expanduser(path))))


def _joined(argv: Sequence[str]) -> list[str]:
    """The command line, with `--config FILE` as `--config=FILE`; the same for all of _READ."""
    words = list(argv[:1])
    for word in argv[1:]:
        before = _READ.fullmatch(words[-1])
        if before and before[2] is None and not word.startswith("-"):
            words[-1] += f"={word}"
        else:
            words.append(word)
    return words


def _import_extensions(argv: Sequence[str]) -> None:
    read = filter(None, map(_READ.fullmatch, argv))
    values = (match[2] or "" for match in read if match[1] == "extensions")
    for name in filter(None, ",".join(values).split(",")):
        try:
            importlib.import_module(name)
        except Exception as error:  # Whatever the user's own module raises.
            reason = f"{type(error).__name__}: {error}"
            raise flags.Error(f"--extensions: {name} cannot be imported ({reason})") from error
