"""Parsing of flags, and flags that commands share.

A command defines only the flags that it reads. Overrides `--config.x.y=z` are parsed here, by the
types in the table of options, so that all problems are reported at once; absl never sees them.
"""

import ast
import functools
import importlib
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

# Defined for --help; read before other flags, which may use what the modules register.
EXTENSIONS = flags.DEFINE_list(
    "extensions", [], "Modules to import first, to use what they register (docs/extending.md)."
)


@functools.cache
def config_flag() -> flags.FlagHolder:
    """--config and --split; its value is the config with its overrides."""
    flags.DEFINE_string(
        "split", None, "JSON file with lists for data.split.rare, common, or holdout of --config: "
        '{"holdout": ["Angelic", 17, ...], ...}. They become part of the config.',
    )  # fmt: skip
    return flags.DEFINE_string(
        "config", None, f"The experiment: a preset NAME[:preset] ({', '.join(presets.NAMES)}), "
        "FILE.py[:preset] with a function get_config, or the config.json of a run. "
        "--config.OPTION=VALUE changes an option; VALUE 'none' unsets an optional one. "
        "The command 'options' lists all options.",
    )  # fmt: skip


@functools.cache
def workdir_flag() -> flags.FlagHolder[str]:
    """--workdir."""
    return flags.DEFINE_string("workdir", None, "Folder of the run or sweep.", required=True)


@functools.cache
def step_flag() -> flags.FlagHolder[int | None]:
    """--step."""
    return flags.DEFINE_integer("step", None, "Checkpoint to open (default: the newest).")


@functools.cache
def replica_flag() -> flags.FlagHolder[str | None]:
    """--replica."""
    return flags.DEFINE_string("replica", None, "Replica to open, if several were trained.")


@functools.cache
def num_sequences_flag() -> flags.FlagHolder[int]:
    """--num_sequences."""
    from emergent_icl.runs.open import NUM_SEQUENCES  # Slow, and few commands evaluate.

    return flags.DEFINE_integer(
        "num_sequences", NUM_SEQUENCES, "Sequences on which to evaluate, in each mode."
    )


@functools.cache
def output_flag() -> Callable[[], Path | None]:
    """--output; returns a function that gives its path, or None."""
    flag = flags.DEFINE_string(
        "output", None, "Where to write: a JSON file (evaluate) or a folder (inspect-run, "
        "variance), by default in the run's folder; a figure (compare), by default "
        "comparison.png; or a packed run (pack), by default RUN.icl.zip.",
    )  # fmt: skip
    return lambda: None if flag.value is None else Path(flag.value).expanduser()


@functools.cache
def format_flag() -> flags.FlagHolder[str]:
    """--format, of figures."""
    from emergent_icl.plots.style import FORMATS  # Slow, and few commands draw.

    names = [suffix.lstrip(".") for suffix in FORMATS]
    return flags.DEFINE_enum("format", names[0], names, "Format of the figures.")


@functools.cache
def data_dir_flag() -> flags.FlagHolder[str | None]:
    """--data_dir."""
    return flags.DEFINE_string(
        "data_dir", None, "Folder of the TFDS datasets, or a file of prepare-data (default: that "
        "of the config, if any, or TFDS_DATA_DIR).",
    )  # fmt: skip


@functools.cache
def data_flags() -> Callable[[], dict[str, str]]:
    """Flags for moved data; returns a function that gives them as overrides of a config."""
    places = {
        "data.images.path": ("images_path", "Folder or file of images"),
        "data.features.path": ("features_path", "File of feature vectors"),
    }
    holders = {"data.data_dir": data_dir_flag()} | {
        path: flags.DEFINE_string(name, None, f"{what} (default: as in the config).")
        for path, (name, what) in places.items()
    }
    return lambda: {path: flag.value for path, flag in holders.items() if flag.value is not None}


# Flags that are read before absl parses: name and, if given, value.
_READ = re.compile(r"--?(extensions|config|(?:no)?config\.[^=]+)(?:=(.*))?", re.DOTALL)
_OVERRIDES = ("--config.", "-config.", "--noconfig.", "-noconfig.")
_HELP = {"--help", "-help", "-h"}


def parse_flags(argv: Sequence[str]) -> list[str]:
    """Parses flags for `app.run`; exits with a message if they are wrong."""
    try:
        words = flags.FLAGS.read_flags_from_files(argv[1:], force_gnu=False)
        argv = _joined([argv[0], *map(_with_underscores, words)])
        _import_extensions(argv)
        if not _HELP.isdisjoint(argv):
            app.usage(shorthelp=True, writeto_stdout=True)
            sys.exit(0)
        if "config" not in flags.FLAGS:
            return flags.FLAGS(argv)
        config = config_of(argv)
        rest = flags.FLAGS([word for word in argv if not word.startswith(_OVERRIDES)])
        if flags.FLAGS.split is not None:
            if config is None:
                raise ConfigError([f"--split={flags.FLAGS.split} needs a --config"])
            with config.unlocked():
                config.data.split.update(read_split(Path(flags.FLAGS.split).expanduser()))
        flags.FLAGS["config"].value = config
        return rest
    except ConfigError as error:
        message = str(error)
    except OSError as error:
        message = f"{error.strerror}: {error.filename}"
    except flags.Error as error:
        message = " ".join(str(error).split())
        # absl's message on a missing flag quotes None.
        message = re.sub(r"flag --(\w+)=None: .*", r"--\1 is required", message)
    fail(message, 2)


def config_of(argv: Sequence[str]) -> ml_collections.ConfigDict | None:
    """The locked config of a command line with its overrides; None if it names no config.

    A value of the wrong type remains text, for `check` to refuse.

    Raises:
      ConfigError: the config cannot be loaded, or options are unknown; lists every problem.
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
            raise ConfigError([f"--config.{next(iter(texts))} needs a --config"])
        return None
    config = presets.load(where)
    current = flatten(config.to_dict())
    return presets.override(
        config, {path: parsed(path, text, current.get(path)) for path, text in texts.items()}
    )


def parsed(path: str, text: str | None, current: Any = None) -> Any:
    """The value of an option from its text, 'none' for None; the text if it has another type."""
    # Undeclared options have the type of their current value.
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


def _with_underscores(word: str) -> str:
    """--dry-run is --dry_run."""
    name, equals, value = word.partition("=")
    is_flag = name.startswith("--") and not name.startswith(_OVERRIDES)
    return f"--{name[2:].replace('-', '_')}{equals}{value}" if is_flag else word


def _joined(argv: Sequence[str]) -> list[str]:
    """Rewrites `--config FILE` as `--config=FILE`, and so for all flags of _READ."""
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
        except Exception as error:  # The user's module may raise anything.
            reason = f"{type(error).__name__}: {error}"
            raise flags.Error(f"--extensions: {name} cannot be imported ({reason})") from error
