"""Presets: configs by name. One small file per experiment; every option is in config/options.py."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from emergent_icl.config.check import ConfigError
from emergent_icl.config.configs import flatten, tuples, with_options
from emergent_icl.config.registry import nearest_options, unknown_name
from emergent_icl.runs.check import check


def load(name: str) -> ConfigDict:
    """The config of a preset, such as 'omniglot:small'; 'omniglot' alone is its default preset.

    Raises:
      ConfigError: there is no such preset; names the nearest one.
    """
    file, _, preset = name.partition(":")
    names = [module.name for module in pkgutil.iter_modules(__path__)]
    if file not in names:
        raise ConfigError([unknown_name("preset", file, names)])
    module = importlib.import_module(f"{__name__}.{file}")
    try:
        return module.get_config(*filter(None, [preset]))
    except (ValueError, TypeError) as error:  # 'base' takes no preset, 'stored' needs a folder.
        raise ConfigError([f"{name}: {error}"]) from error


def get_config(name: str, overrides: Mapping[str, Any] | None = None) -> ConfigDict:
    """A preset with some options changed, checked as a whole.

    Args:
      name: as on the command line: 'omniglot:small', 'gaussian', 'stored:runs/small', ...
      overrides: {'data.sequences.p_bursty': 0.5, ...}; docs/options.md lists all options.

    Returns:
      The config, locked. Pass it to `train`.

    Raises:
      ConfigError: an unknown preset or option, or an impossible value; lists every problem, with
        what is allowed and the nearest names.
    """
    config, values = load(name), tuples(dict(overrides or {}))
    known = flatten(config.to_dict())
    problems = [
        f"{path} is not an option{nearest_options(path, known)}"
        for path in values
        if path not in known
    ]
    if problems:
        raise ConfigError(problems)
    config = with_options(config, values)
    check(config)
    return config
