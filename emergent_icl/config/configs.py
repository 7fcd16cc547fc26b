"""Configs as values: create, flatten, and change them; names of options and replicas."""

import re
from collections.abc import Collection, Mapping
from typing import Any

import ml_collections
import numpy as np
from ml_collections.config_dict import placeholder

from emergent_icl.config.options import EXTENSIONS, OPTIONS, known
from emergent_icl.config.registry import nearest_options

# Keyword arguments of the optimizer, which checks them.
OPTIMIZER_OPTIONS = "training.optimizer.options."


def default_config(*extensions: str) -> ml_collections.ConfigDict:
    """Every option at its default, locked: the paper's setting, as far as one config allows.

    `extensions` are further sections of declared options, such as 'data.mosaics'. Raises KeyError
    if a section has no declared options.
    """
    for name in extensions:
        if not any(path.startswith(f"{name}.") for path in EXTENSIONS):
            raise KeyError(f"no option of '{name}' is declared: is its extension imported?")
    tree: dict[str, Any] = {}
    for path, option in known().items():
        if path in OPTIONS or path.startswith(tuple(f"{name}." for name in extensions)):
            section, name = place(tree, path, make=True)
            section[name] = placeholder(int) if option.default is None else option.default
    return ml_collections.ConfigDict(tree).lock()


def place(tree: Any, path: str, *, make: bool = False) -> tuple[Any, str]:
    """The section of nested dictionaries or a config that contains an option, and its name there.

    The section is None if it is missing (and not `make`) or not a section.
    """
    *sections, name = path.split(".")
    for part in sections:
        if not isinstance(tree, dict | ml_collections.ConfigDict):
            return None, name
        tree = tree.setdefault(part, {}) if make else tree.get(part)
    return (tree if isinstance(tree, dict | ml_collections.ConfigDict) else None), name


def prefixes(flag: str) -> tuple[str, ...]:
    """Paths of options that have a flag (an attribute of Option), for `str.startswith`.

    If all options of a section have it, they are shortened to 'section.'.
    """
    flags = {path: getattr(option, flag) for path, option in known().items()}

    def shortened(path: str) -> str:
        section = path.rpartition(".")[0] + "."
        inside = [has for other, has in flags.items() if other.startswith(section)]
        return section if all(inside) else path

    return tuple(dict.fromkeys(shortened(path) for path, has in flags.items() if has))


def in_words(prefixes: tuple[str, ...]) -> str:
    """Formats prefixes: ('a.b', 'c.') -> 'a.b, c.*'."""
    return ", ".join(prefix + "*" * prefix.endswith(".") for prefix in prefixes)


def has(path: str, flag: str) -> bool:
    """Whether an option exists and has a flag (an attribute of Option)."""
    option = known().get(path)
    return option is not None and getattr(option, flag)


def is_resumable(path: str) -> bool:
    """Whether an option may change when a run is resumed."""
    return has(path, "resumable") or has(path, "per_machine")


def flatten(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Flattens nested dictionaries to {'a.b.c': value}."""
    flat = {}
    for name, value in tree.items():
        if isinstance(value, dict):
            flat |= flatten(value, f"{prefix}{name}.")
        else:
            flat[prefix + name] = value
    return flat


def tuples(value: Any) -> Any:
    """Converts lists and arrays to tuples, and NumPy scalars to plain numbers, recursively."""
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    if isinstance(value, dict):
        return {name: tuples(entry) for name, entry in value.items()}
    if isinstance(value, list | tuple):
        return tuple(tuples(entry) for entry in value)
    return value


# Used as names of files and TensorBoard runs.
_NAME = re.compile(r"[A-Za-z0-9][\w.=,+-]{0,99}", re.ASCII)
NAME_RULE = "a letter or digit, then up to 99 letters, digits or any of _ . = , + -"


def is_name(name: object) -> bool:
    """Whether something is a valid name of a replica, or of anything else that has a folder."""
    return isinstance(name, str) and _NAME.fullmatch(name) is not None


def is_plain(config: ml_collections.ConfigDict) -> bool:
    """Whether the config describes a single, unnamed run."""
    return config.training.replicas == 1 and not config.training.replica_overrides


def named_overrides(config: ml_collections.ConfigDict) -> list[tuple[str, dict[str, Any]]]:
    """(name, {option: value}) of each replica; the name of a single run is ''.

    Replicas without overrides have consecutive seeds, from training.seed upward.
    """
    training = config.training
    if training.replica_overrides:
        return [_named(**tuples(overrides)) for overrides in training.replica_overrides]
    if is_plain(config):
        return [("", {})]
    seeds = range(training.seed, training.seed + training.replicas)
    return [(f"seed={seed}", {"training.seed": seed}) for seed in seeds]


def _named(*, name: str | None = None, **overrides: Any) -> tuple[str, dict[str, Any]]:
    short = (f"{path.rpartition('.')[2]}={value}" for path, value in overrides.items())
    return (",".join(short) if name is None else name), overrides


def alone(
    config: ml_collections.ConfigDict, overrides: Mapping[str, Any]
) -> ml_collections.ConfigDict:
    """The config of a single run with these options; raises KeyError for unknown ones."""
    single = {"training.replicas": 1, "training.replica_overrides": ()}
    return with_options(config, {**overrides, **single, "training.spread_replicas": False})


def is_option(path: str, known: Collection[str]) -> bool:
    """Whether a path is a known option or a keyword argument of the optimizer."""
    section, _, name = path.rpartition(".")
    return path in known or (f"{section}." == OPTIMIZER_OPTIONS and bool(name))


def unknown_option(path: str, known: Collection[str]) -> str:
    """The message for an unknown option, with the options of the section or the nearest ones."""
    inside = [name for name in known if name.startswith(f"{path}.")]
    if inside:
        return f"{path} is not an option but a section; its options are {', '.join(inside)}"
    return f"{path} is not an option{nearest_options(path, known)}"


def with_options(
    config: ml_collections.ConfigDict, values: Mapping[str, Any]
) -> ml_collections.ConfigDict:
    """A locked copy with changed options, types unchecked; raises KeyError for unknown ones."""
    known = flatten(config.to_dict())
    changed = config.copy_and_resolve_references().unlock()
    # `update_from_flattened_dict` would treat dictionaries in a value as sections.
    with changed.ignore_type():
        for path, value in values.items():
            if not is_option(path, known):
                raise KeyError(unknown_option(path, known))
            section, name = place(changed, path)
            section[name] = tuples(value)
    return changed.lock()
