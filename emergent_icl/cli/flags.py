"""Flags: those that commands share, extensions, presets by name, and how all of them are parsed.

A command defines only the shared flags that it reads, so that it accepts and lists no others.
absl's flags belong to the whole process, so each is defined once.

ml_collections stops at the first override `--config.x.y=z` that it cannot parse. It is therefore
asked about one override at a time, so that all problems can be reported at once.
"""

from __future__ import annotations

import functools
import importlib
import pkgutil
import re
from collections.abc import Callable, Sequence
from pathlib import Path

import ml_collections
from absl import flags
from ml_collections import config_flags

from emergent_icl import presets
from emergent_icl.cli.console import fail
from emergent_icl.config import options
from emergent_icl.config.check import OPTIMIZER_OPTIONS, ConfigError
from emergent_icl.config.configs import flatten
from emergent_icl.config.registry import nearest_options, unknown_name
from emergent_icl.data.sequences.split import read_split
from emergent_icl.runs.check import check

# Defined for --help: its value is read before flags are parsed, which may name what it registers.
EXTENSIONS = flags.DEFINE_list(
    "extensions",
    [],
    "Modules to import first: what they register can be named (docs/extending.md).",
)


@functools.cache
def config_flag() -> flags.FlagHolder:
    """--config, and --split for a part of it."""
    flags.DEFINE_string(
        "split", None, "JSON file with lists for data.split.rare, common or holdout of --config: "
        '{"holdout": ["Angelic", 17, ...], ...}. The config keeps them, whatever becomes of the '
        "file.",
    )  # fmt: skip
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


# Flags that are read before absl parses the command line: name and, if given, value.
_READ = re.compile(r"--?(extensions|config|(?:no)?config\.[^=]+)(?:=(.*))?", re.DOTALL)


def parse_flags(argv: Sequence[str]) -> list[str]:
    """Parses flags for `app.run`; what is wrong is said without a traceback."""
    try:
        argv = _joined(argv)
        _import_extensions(argv)
        argv = [_with_file_of_preset(word) for word in argv]
        if "config" in flags.FLAGS and (problems := find_problems(argv)):
            fail(str(ConfigError(problems)), 2)
        rest = flags.FLAGS(argv)
        if "config" in flags.FLAGS and flags.FLAGS.config is not None:
            # A missing file is only reported when its config is first used.
            _ = flags.FLAGS.config.is_locked
        if "config" in flags.FLAGS and flags.FLAGS.split is not None:
            _take_split(flags.FLAGS.config, flags.FLAGS.split)
        return rest
    except (KeyError, AttributeError) as error:
        # ml_collections' own message, with the nearest name, without the quotes of a key.
        message = "unknown option " + " ".join(str(error.args[0]).replace('"', "").split())
    except OSError as error:  # The config file was not found; a line for each place searched.
        where = f"{error.strerror}: {error.filename}" if error.filename else str(error)
        message = where.splitlines()[-1].strip()
    except ConfigError as error:
        message = str(error)
    except flags.Error as error:
        # A config file that raises arrives as a traceback in text; its last line says why.
        lines = [line.strip() for line in str(error).splitlines()]
        lines = [line for line in lines if line and not line.startswith("Pass --help")]
        message = lines[-1] if any("Traceback" in line for line in lines) else " ".join(lines)
    fail(message, 2)


def find_problems(argv: Sequence[str]) -> list[str]:
    """What is wrong with the overrides of a config on a command line; empty if nothing is.

    Only if there are unknown options or values of a wrong type are the other problems of the config
    listed too; otherwise they are left to the command's own validation.

    Raises:
      flags.Error, OSError: the config file itself cannot be loaded.
    """
    config_file, overrides = None, []
    for match in filter(None, map(_READ.fullmatch, _joined(argv))):
        if match[1] == "config":
            config_file = match[2]
        elif match[1] != "extensions":
            overrides.append((match[1].partition(".")[2], match[2], match[0]))
    if not overrides:
        return []
    if config_file is None:
        return [f"{overrides[0][0]} is given, but no --config=FILE whose option it is"]
    known, problems, good = flatten(_load(config_file).to_dict()), [], []
    for path, value, word in overrides:
        if path not in known:
            problems.append(f"{path} is not an option{_advice(path, known)}")
            continue
        try:
            _load(config_file, word)
            good.append(word)
        except (flags.Error, ValueError, TypeError, KeyError):
            option = options.known().get(path)
            allowed = f"must be {option.rule.text}" if option else "is of the wrong type"
            problems.append(f"{path} = {value!r} {allowed}")
    if problems:
        try:
            check(_load(config_file, *good))
        except ConfigError as error:
            problems += error.problems
        except (flags.Error, KeyError, ValueError, TypeError):
            pass  # What was found already says enough.
    return problems


def _take_split(config: ml_collections.ConfigDict | None, path: str) -> None:
    """Gives a config the lists of a file."""
    if config is None:
        raise ConfigError([f"--split={path} needs the --config whose lists it gives"])
    with config.unlocked():
        config.data.split.update(read_split(Path(path)))


def _advice(path: str, known: dict[str, object]) -> str:
    if path.startswith(OPTIMIZER_OPTIONS):
        return f": {OPTIMIZER_OPTIONS} can be set in a config file only"
    inside = [name for name in known if name.startswith(f"{path}.")]
    if inside:
        return f" but a section; its options are {', '.join(inside)}"
    return nearest_options(path, known)


def _load(config_file: str, *overrides: str) -> ml_collections.ConfigDict:
    """The config with some overrides, as ml_collections parses them."""
    argv = ["_", f"--config={config_file}", *overrides]
    values = flags.FlagValues()
    holder = config_flags.DEFINE_config_file("config", flag_values=values, sys_argv=argv)
    values(argv)
    return holder.value


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


def _with_file_of_preset(word: str) -> str:
    """--config=NAME[:preset] as --config=FILE[:preset]; other words are returned unchanged."""
    flag, _, where = word.partition("=")
    name, colon, preset = where.partition(":")
    if flag not in ("-config", "--config") or not name.isidentifier() or Path(name).exists():
        return word
    names = [module.name for module in pkgutil.iter_modules(presets.__path__)]
    if name not in names:
        raise flags.Error(f"{word} is no file, and {unknown_name('preset', name, names)}")
    return f"--config={Path(presets.__path__[0], name)}.py{colon}{preset}"
