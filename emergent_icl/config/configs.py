"""A config as a value: made, flattened, compared, identified, read as an earlier version wrote it.

Stored runs outlive new options: one that came later says what was done before it (`Option.before`),
one that was renamed has a row in RENAMED; nothing else has to know.
"""

from __future__ import annotations

import copy
import itertools
import json
import re
import zlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import ml_collections
from ml_collections.config_dict import placeholder

from emergent_icl.config.options import EXTENSIONS, OPTIONS, known
from emergent_icl.config.registry import nearest_options
from emergent_icl.config.rules import FROM_THE_START, Option

# Names that options have had -> their names today.
RENAMED: dict[str, str] = {}
# Options that may be left unset -> what a valid config then means by them. Modules that derive an
# option register it here. Such an option depends neither on the machine nor on what may change in a
# resumed run: training.steps_per_call depends on both, and is compared as it is written.
DERIVED: dict[str, Callable[[ml_collections.ConfigDict], Any]] = {}

# Its entries map options to values; it is not a section.
OVERRIDES = "training.replica_overrides"


def default_config(*extensions: str) -> ml_collections.ConfigDict:
    """Every option at its default: the paper's setting, as far as one config can be that; locked.

    Tuples stay tuples, integers integers; an option that is unset takes an integer.

    Args:
      *extensions: sections that the config shall have besides, as 'data.mosaics'; their options
        are those that were declared.

    Raises:
      KeyError: nothing was declared for a section.
    """
    for name in extensions:
        if not any(path.startswith(f"{name}.") for path in EXTENSIONS):
            raise KeyError(f"no option of '{name}' is declared: is its extension imported?")
    config = ml_collections.ConfigDict()
    for path, option in known().items():
        if path in OPTIONS or path.startswith(tuple(f"{name}." for name in extensions)):
            *sections, name = path.split(".")
            section = config
            for part in sections:
                if part not in section:
                    section[part] = ml_collections.ConfigDict()
                section = section[part]
            section[name] = _initial(option)
    return config.lock()


def _initial(option: Option) -> Any:
    if option.default is None:
        return placeholder(int)
    return ml_collections.ConfigDict() if option.default == {} else option.default


def prefixes(flag: str) -> tuple[str, ...]:
    """The options that have a flag, as `str.startswith` takes them: a whole section as 'section.'.

    Args:
      flag: name of an attribute of Option.
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
    """Whether there is such an option and it has a flag: an attribute of Option."""
    option = known().get(path)
    return option is not None and getattr(option, flag)


def is_resumable(path: str) -> bool:
    """Whether an option may be another one when a run is resumed."""
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
    """The same with tuples for lists: JSON has only lists, configs have only tuples."""
    if isinstance(value, dict):
        return {name: tuples(entry) for name, entry in value.items()}
    if isinstance(value, list | tuple):
        return tuple(tuples(entry) for entry in value)
    return value


def completed(stored: dict[str, Any]) -> dict[str, Any]:
    """A config that any version wrote, in the options of this one.

    Renamed options get their names of today, options that came later what was done before them.

    Args:
      stored: the content of a config.json, nested; not changed. What no version wrote is left as
        it is, for the validation to refuse.
    """
    tree = copy.deepcopy(stored)
    for old, new in RENAMED.items():
        section, name = _section(tree, old, make=False)
        # One that stands there under both names is left as it is, too.
        if section is not None and name in section and _put(tree, new, section[name]):
            del section[name]
    for path, value in _added().items():
        _put(tree, path, value)
    training = tree.get("training")
    if isinstance(training, dict) and isinstance(training.get("replica_overrides"), list | tuple):
        training["replica_overrides"] = [
            _renamed(one, RENAMED) for one in training["replica_overrides"]
        ]
    return tree


def differing_options(
    old: ml_collections.ConfigDict, new: ml_collections.ConfigDict
) -> Iterator[tuple[str, Any, Any]]:
    """Yields (path, old value, new value) of options that differ; None for a missing one.

    One that is unset in one of them, and set in the other to what it means there, does not differ.
    """
    old_flat, new_flat = (flatten(tuples(config.to_dict())) for config in (old, new))
    for path in sorted(old_flat.keys() | new_flat.keys()):
        before, after = old_flat.get(path), new_flat.get(path)
        if before != after and not _mean_the_same(path, old, new):
            yield path, before, after


def identity(config: ml_collections.ConfigDict) -> int:
    """A checksum of all options that a resumed run must share.

    It is that of the config as the first version would have written it, where it could have: an
    option that came later counts only where it changes what is done.
    """
    return _checksum(flatten(tuples(config.to_dict())))


def identities(config: ml_collections.ConfigDict) -> tuple[int, ...]:
    """The config's own identity, then those of other ways to write it: see `differing_options`."""
    flat = flatten(tuples(config.to_dict()))
    ways = {path: [flat.get(path), *_other_way(config, path)] for path in DERIVED}
    written = (dict(zip(ways, values, strict=True)) for values in itertools.product(*ways.values()))
    known = {path: value for path, value in flat.items() if path not in ways}
    missing = {path for path in ways if path not in flat}
    found = (
        known | {path: value for path, value in one.items() if path not in missing}
        for one in written
    )
    return tuple(dict.fromkeys(_checksum(one) for one in found))


def _added() -> dict[str, Any]:
    """Options that came after version 0.1.0 -> what was done before."""
    before = {path: option.before for path, option in OPTIONS.items()}
    return {path: value for path, value in before.items() if value is not FROM_THE_START}


def _checksum(flat: dict[str, Any]) -> int:
    """Of flat options by their first names, without those that change nothing."""
    added = _added()
    fixed = {
        path: value
        for path, value in flat.items()
        if not is_resumable(path) and added.get(path, FROM_THE_START) != value
    }
    first_names = {new: old for old, new in reversed(RENAMED.items())}
    if isinstance(fixed.get(OVERRIDES), tuple):
        fixed[OVERRIDES] = tuple(_renamed(one, first_names) for one in fixed[OVERRIDES])
    return zlib.crc32(json.dumps(_renamed(fixed, first_names), sort_keys=True).encode())


def _renamed(options: Any, names: dict[str, str]) -> Any:
    """The same options by other names; anything but a dictionary is returned unchanged."""
    if not isinstance(options, dict):
        return options
    for old, new in names.items():
        options = {new if path == old else path: value for path, value in options.items()}
    return options


def _mean_the_same(
    path: str, old: ml_collections.ConfigDict, new: ml_collections.ConfigDict
) -> bool:
    if path not in DERIVED:
        return False
    values = [_meant(path, config) for config in (old, new)]
    return values[0] == values[1] and values[0] is not None


def _meant(path: str, config: ml_collections.ConfigDict) -> Any:
    """The value of an option that may be unset; None where that cannot be told."""
    value = flatten(config.to_dict()).get(path)
    if value is not None:
        return value
    try:
        return DERIVED[path](config)
    except (Exception, MemoryError):  # Of an invalid config, or of data that are not there.
        return None


def _other_way(config: ml_collections.ConfigDict, path: str) -> list[Any]:
    """How else a derived option can be written: unset, or set."""
    value = flatten(config.to_dict()).get(path)
    if value is None:
        meant = _meant(path, config)
        return [] if meant is None else [meant]
    unset = config.copy_and_resolve_references().unlock()
    with unset.ignore_type():
        unset.update_from_flattened_dict({path: None})
    return [None] if _meant(path, unset) == value else []


def _section(tree: Any, path: str, make: bool) -> tuple[Any, str]:
    """The dictionary that holds an option, None if something else is in its place; and its name."""
    *sections, name = path.split(".")
    for part in sections:
        if not isinstance(tree, dict):
            return None, name
        tree = tree.setdefault(part, {}) if make else tree.get(part)
    return (tree if isinstance(tree, dict) else None), name


def _put(tree: dict[str, Any], path: str, value: Any) -> bool:
    """Sets an option that is not there yet; whether it could be set."""
    section, name = _section(tree, path, make=True)
    if section is None or name in section:
        return False
    section[name] = value
    return True


# Names stand in files' names and in TensorBoard's runs.
_NAME = re.compile(r"[A-Za-z0-9][\w.=,+-]{0,99}", re.ASCII)
NAME_RULE = "a letter or digit, then up to 99 letters, digits or any of _ . = , + -"


def is_name(name: object) -> bool:
    """Whether something may be the name of a replica, or of anything else that is a folder."""
    return isinstance(name, str) and _NAME.fullmatch(name) is not None


def is_plain(config: ml_collections.ConfigDict) -> bool:
    """Whether the config is that of a run that is alone, without a name."""
    return config.training.replicas == 1 and not config.training.replica_overrides


def named_overrides(config: ml_collections.ConfigDict) -> list[tuple[str, dict[str, Any]]]:
    """(name, {option: value}) of each replica; a plain run is one without a name.

    Several replicas without overrides are as many seeds, from the config's own upwards.
    """
    training = config.training
    if training.replica_overrides:
        return [_named(dict(overrides)) for overrides in training.replica_overrides]
    if is_plain(config):
        return [("", {})]
    seeds = range(training.seed, training.seed + training.replicas)
    return [(f"seed={seed}", {"training.seed": seed}) for seed in seeds]


def _named(overrides: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    name = overrides.pop("name", None)
    if name is None:
        name = ",".join(f"{path.rsplit('.', 1)[-1]}={value}" for path, value in overrides.items())
    return name, overrides


def alone(
    config: ml_collections.ConfigDict, overrides: Mapping[str, Any]
) -> ml_collections.ConfigDict:
    """The config of a run on its own, with these options.

    Raises:
      KeyError: there is no such option.
    """
    nothing = {"training.replicas": 1, "training.replica_overrides": ()}
    return with_options(config, {**overrides, **nothing, "training.spread_replicas": False})


def with_options(
    config: ml_collections.ConfigDict, values: Mapping[str, Any]
) -> ml_collections.ConfigDict:
    """A locked copy with some options changed; types are not checked.

    Raises:
      KeyError, TypeError: there is no such option.
    """
    changed = config.copy_and_resolve_references().unlock()
    # `update_from_flattened_dict` would take the dictionaries in a value for sections.
    with changed.ignore_type():
        for path, value in values.items():
            *sections, name = path.split(".")
            section = changed
            for part in sections:
                inside = section.get(part, {})
                section = inside if isinstance(inside, ml_collections.ConfigDict) else {}
            if name not in section or isinstance(section[name], ml_collections.ConfigDict):
                known = flatten(config.to_dict())
                raise KeyError(f"{path} is not an option{nearest_options(path, known)}")
            section[name] = value
    return changed.lock()
