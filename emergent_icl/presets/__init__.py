"""Presets: configs by name, one small file per experiment; options are in config/options.py."""

import os
import pkgutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from emergent_icl.config.check import ConfigError
from emergent_icl.config.configs import flatten, is_option, tuples, unknown_option, with_options
from emergent_icl.config.files import FileError, call_file
from emergent_icl.runs.check import check

NAMES = tuple(module.name for module in pkgutil.iter_modules(__path__))


def load(where: str) -> ConfigDict:
    """Loads a locked config by name or file.

    Args:
      where: NAME[:preset], such as 'omniglot:small'; FILE.py[:preset], with a function
        `get_config`; or the config.json of a run.

    Raises:
      ConfigError: no such config; suggests the nearest name.
    """
    path, is_name = Path(os.path.expanduser(where)), where.partition(":")[0] in NAMES
    try:
        if where and path.is_dir() and not is_name:
            inside = path / "config.json"
            hint = f"; for the config of the run in it: {inside}" if inside.is_file() else ""
            raise FileError(f"{path} is a folder{hint}")
        is_stored = path.suffix == ".json" and not is_name
        place = f"stored:{where}" if is_stored else where
        config = call_file(place, "get_config", __name__, NAMES)
        if not isinstance(config, ConfigDict):
            given = type(config).__name__
            raise FileError(f"{where}: get_config must return a ConfigDict, not {given}")
        return config.lock()
    except FileError as error:
        raise FileError(f"config '{where}': {error}") from error


def get_config(name: str, overrides: Mapping[str, Any] | None = None) -> ConfigDict:
    """Loads a config, changes options, and checks the result.

    Args:
      name: as for `load`: 'omniglot:small', 'gaussian', 'runs/small/config.json', ...
      overrides: {'data.sequences.p_bursty': 0.5, ...}; docs/options.md lists all options.

    Returns:
      The locked config, for `train`.

    Raises:
      ConfigError: unknown configs or options, or invalid values; lists every problem, with allowed
        values and the nearest names.
    """
    config = override(load(name), tuples(dict(overrides or {})))
    check(config)
    return config


def override(config: ConfigDict, values: Mapping[str, Any]) -> ConfigDict:
    """A copy with changed options; raises ConfigError with all problems if any are unknown."""
    known = flatten(config.to_dict())
    good = {path: value for path, value in values.items() if is_option(path, known)}
    changed = with_options(config, good)
    if problems := [unknown_option(path, known) for path in values if path not in good]:
        try:
            check(changed)
        except ConfigError as error:
            problems += error.problems
        raise ConfigError(problems)
    return changed
