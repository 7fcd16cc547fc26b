"""A config as a value: made, flattened, changed; the names of its options and of its replicas."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Any

import ml_collections
import numpy as np
from ml_collections.config_dict import placeholder

from emergent_icl.config.options import EXTENSIONS, OPTIONS, known
from emergent_icl.config.registry import nearest_options

# The keyword arguments of the optimizer, which alone says what they are.
OPTIMIZER_OPTIONS = "training.optimizer.options."


def default_config(*extensions: str) -> ml_collections.ConfigDict:
    """Every option at its default, locked: the paper's setting, as far as one config allows.

    Args:
      extensions: further sections whose options were declared, such as 'data.mosaics'.

    Raises:
      KeyError: no options were declared for a section.
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
    """The section of nested dictionaries, or of a config, that holds an option; its name there.

    The section is None if something else is in its place, or if it is neither there nor made.
    """
    *sections, name = path.split(".")
    for part in sections:
        if not isinstance(tree, dict | ml_collections.ConfigDict):
            return None, name
        tree = tree.setdefault(part, {}) if make else tree.get(part)
    return (tree if isinstance(tree, dict | ml_collections.ConfigDict) else None), name


def prefixes(flag: str) -> tuple[str, ...]:
    """Paths of options for which an attribute of Option is true, for `str.startswith`.

    A section all of whose options have it is shortened to 'section.'.
    """
    flags = {path: getattr(option, flag) for path, option in known().items()}

    def shortened(path: str) -> str:
        section = path.rpartition(".")[0] + "."
        inside = [has for other, has in flags.items() if other.startswith(section)]
        return section if all(inside) else path

    return tuple(dict.fromkeys(shortened(path) for path, has in flags.items() if has))


def in_words(prefixes: tuple[str, ...]) -> str:
    """'a.b, c.*' for ('a.b', 'c.')."""
    return ", ".join(prefix + "*" * prefix.endswith(".") for prefix in prefixes)


def has(path: str, flag: str) -> bool:
    """Whether there is such an option, and an attribute of Option is true for it."""
    option = known().get(path)
    return option is not None and getattr(option, flag)


def is_resumable(path: str) -> bool:
    """Whether an option may change when a run is resumed."""
    return has(path, "resumable") or has(path, "per_machine")


def flatten(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested dictionaries -> {'a.b.c': value}."""
    flat = {}
    for name, value in tree.items():
        if isinstance(value, dict):
            flat |= flatten(value, f"{prefix}{name}.")
        else:
            flat[prefix + name] = value
    return flat


def tuples(value: Any) -> Any:
    """A value as configs hold it: tuples for lists and arrays, plain numbers for NumPy's."""
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    if isinstance(value, dict):
        return {name: tuples(entry) for name, entry in value.items()}
    if isinstance(value, list | tuple):
        return tuple(tuples(entry) for entry in value)
    return value


# Names become names of files and of TensorBoard's runs.
_NAME = re.compile(r"[A-Za-z0-9][\w.=,+-]{0,99}", re.ASCII)
NAME_RULE = "a letter or digit, then up to 99 letters, digits or any of _ . = , + -"


def is_name(name: object) -> bool:
    """Whether something may be the name of a replica, or of anything else that gets a folder."""
    return isinstance(name, str) and _NAME.fullmatch(name) is not None


def is_plain(config: ml_collections.ConfigDict) -> bool:
    """Whether the config is that of a single run, which has no name."""
    return config.training.replicas == 1 and not config.training.replica_overrides


def named_overrides(config: ml_collections.ConfigDict) -> list[tuple[str, dict[str, Any]]]:
    """(name, {option: value}) of each replica; a single run is one without a name.

    Several replicas without overrides differ in their seeds, from the config's own upwards.
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
    """The config of a single run, with these options.

    Raises:
      KeyError: there is no such option.
    """
    nothing = {"training.replicas": 1, "training.replica_overrides": ()}
    return with_options(config, {**overrides, **nothing, "training.spread_replicas": False})


def is_option(path: str, known: Collection[str]) -> bool:
    """Whether a path is among known ones, or may be a keyword argument of the optimizer."""
    section, _, name = path.rpartition(".")
    return path in known or (f"{section}." == OPTIMIZER_OPTIONS and bool(name))


def unknown_option(path: str, known: Collection[str]) -> str:
    """The message for what is no option, with the options of a section, or the nearest ones."""
    inside = [name for name in known if name.startswith(f"{path}.")]
    if inside:
        return f"{path} is not an option but a section; its options are {', '.join(inside)}"
    return f"{path} is not an option{nearest_options(path, known)}"


def with_options(
    config: ml_collections.ConfigDict, values: Mapping[str, Any]
) -> ml_collections.ConfigDict:
    """A locked copy with some options changed; types are not checked.

    Raises:
      KeyError: there is no such option.
    """
    known = flatten(config.to_dict())
    changed = config.copy_and_resolve_references().unlock()
    # `update_from_flattened_dict` would take the dictionaries in a value for sections.
    with changed.ignore_type():
        for path, value in values.items():
            if not is_option(path, known):
                raise KeyError(unknown_option(path, known))
            section, name = place(changed, path)
            section[name] = tuples(value)
    return changed.lock()
