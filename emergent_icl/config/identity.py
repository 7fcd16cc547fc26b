"""Complete, compare, and identify configs of any version.

`Option.before` describes the behavior before an option was added; RENAMED lists renamed options.
"""

import copy
import itertools
import json
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import ml_collections

from emergent_icl.config.configs import flatten, is_resumable, place, tuples, with_options
from emergent_icl.config.options import OPTIONS, known
from emergent_icl.config.rules import FROM_THE_START

# Old names of options -> current names.
RENAMED: dict[str, str] = {}
# Options that may be unset -> how they are derived from a valid config. Modules register them here,
# except those that depend on the machine or on what may change in a resumed run, such as
# training.steps_per_call, which are compared as written.
DERIVED: dict[str, Callable[[ml_collections.ConfigDict], Any]] = {}
# A tuple of {option: value}.
OVERRIDES = "training.replica_overrides"


def completed(stored: dict[str, Any]) -> dict[str, Any]:
    """Updates a config of any version to the options of this one.

    Renames options, and adds later ones with `Option.before`. Invalid parts are left to the checks.
    """
    tree = _with_current_names(stored)
    for path, value in _later().items():
        _add(tree, path, value)
    training, name = place(tree, OVERRIDES)
    if training is not None and isinstance(training.get(name), list | tuple):
        training[name] = [_renamed(one, RENAMED) for one in training[name]]
    return tree


def lacking(stored: dict[str, Any]) -> dict[str, Any]:
    """Options added after a config was written -> values that describe the behavior before."""
    there = flatten(_with_current_names(stored))
    return {path: value for path, value in _later().items() if path not in there}


def kept(
    stored: dict[str, Any], config: ml_collections.ConfigDict
) -> tuple[ml_collections.ConfigDict, dict[str, Any]]:
    """The config with which a command resumes a stored run, and {option: value} that the run keeps.

    A run keeps its values of options that the command leaves unset, or that were added after the
    run and are at their defaults.
    """
    old, came_later = ml_collections.ConfigDict(tuples(completed(stored))), lacking(stored)
    options, flat = known(), flatten(tuples(config.to_dict()))
    keeps = {
        path: value
        for path, value, given in differing_options(old, config)
        if path in flat
        and (given is None or (path in came_later and given == options[path].default))
    }
    # Equal values may be written differently, as 0 and 0.0, which identities tell apart.
    same = {
        path: value
        for path, value in flatten(tuples(old.to_dict())).items()
        if path in flat and flat[path] == value
    }
    return with_options(config, same | keeps), keeps


def differing_options(
    old: ml_collections.ConfigDict, new: ml_collections.ConfigDict
) -> Iterator[tuple[str, Any, Any]]:
    """Yields (path, old value, new value) of options that differ; None if missing.

    An unset option does not differ from one that is set to the derived value.
    """
    old_flat, new_flat = (flatten(tuples(config.to_dict())) for config in (old, new))
    for path in sorted(old_flat.keys() | new_flat.keys()):
        before, after = old_flat.get(path), new_flat.get(path)
        if before == after:
            continue
        if path in DERIVED:
            meant = [_derived(path, old) if before is None else before]
            meant.append(_derived(path, new) if after is None else after)
            if None not in meant and meant[0] == meant[1]:
                continue
        yield path, before, after


def identity(config: ml_collections.ConfigDict) -> int:
    """A checksum of all options that a resumed run must share.

    Later options count only if they change the behavior of earlier versions.
    """
    return checksum_of(flatten(tuples(config.to_dict())))


def identities(config: ml_collections.ConfigDict) -> tuple[int, ...]:
    """The identities of a config and its equivalents (see `differing_options`), its own first."""
    flat = flatten(tuples(config.to_dict()))
    ways = {path: _ways(path, flat[path], config) for path in DERIVED if path in flat}
    written = (dict(zip(ways, values, strict=True)) for values in itertools.product(*ways.values()))
    return tuple(dict.fromkeys(checksum_of(flat | one) for one in written))


def _with_current_names(stored: dict[str, Any]) -> dict[str, Any]:
    """A copy with the current names of options."""
    tree = copy.deepcopy(stored)
    for old, new in RENAMED.items():
        section, name = place(tree, old)
        # Leave an option that has both names.
        if section is not None and name in section and _add(tree, new, section[name]):
            del section[name]
    return tree


def _add(tree: dict[str, Any], path: str, value: Any) -> bool:
    """Sets an option that is missing; returns whether it could be set."""
    section, name = place(tree, path, make=True)
    if section is None or name in section:
        return False
    section[name] = value
    return True


def _later() -> dict[str, Any]:
    """Options added after version 0.1.0 -> `Option.before`."""
    before = {path: option.before for path, option in OPTIONS.items()}
    return {path: value for path, value in before.items() if value is not FROM_THE_START}


def checksum_of(flat: dict[str, Any]) -> int:
    """A checksum of options by their original names, without those that change nothing."""
    later = _later()
    fixed = {
        path: value
        for path, value in flat.items()
        if not is_resumable(path) and later.get(path, FROM_THE_START) != value
    }
    first_names = {new: old for old, new in reversed(RENAMED.items())}
    if isinstance(fixed.get(OVERRIDES), tuple):
        fixed[OVERRIDES] = tuple(_renamed(one, first_names) for one in fixed[OVERRIDES])
    return zlib.crc32(json.dumps(_renamed(fixed, first_names), sort_keys=True).encode())


def _renamed(options: Any, names: dict[str, str]) -> Any:
    """Renames options of a dictionary; other values are returned unchanged."""
    if not isinstance(options, dict):
        return options
    for old, new in names.items():
        options = {new if path == old else path: value for path, value in options.items()}
    return options


def _derived(path: str, config: ml_collections.ConfigDict) -> Any:
    """The derived value of an option; None if there is none."""
    try:
        return DERIVED[path](with_options(config, {path: None}))
    except (Exception, MemoryError):  # Invalid config or missing data.
        return None


def _ways(path: str, value: Any, config: ml_collections.ConfigDict) -> list[Any]:
    """Equivalent values of a derived option, its own first."""
    meant = _derived(path, config)
    if meant is None or value not in (None, meant):
        return [value]
    return [value, meant if value is None else None]
