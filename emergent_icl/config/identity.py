"""Configs of any version: completed, compared, identified.

Stored runs outlive new options: a later option says what was done before it (`Option.before`), a
renamed one has a row in RENAMED.
"""

from __future__ import annotations

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

# Names that options have had -> their names today.
RENAMED: dict[str, str] = {}
# Options that may be left unset -> the value that is then derived from a valid config. Modules that
# derive an option register it here, unless it depends on the machine or on what may change in a
# resumed run, as training.steps_per_call does, which is compared as written.
DERIVED: dict[str, Callable[[ml_collections.ConfigDict], Any]] = {}
# A tuple of dictionaries, each from options to values.
OVERRIDES = "training.replica_overrides"


def completed(stored: dict[str, Any]) -> dict[str, Any]:
    """A config that any version wrote, with the options of this one.

    Renamed options get their current names, later options the value of what was done before them.
    What no version wrote is left as it is, to be refused by the checks.
    """
    tree = _with_current_names(stored)
    for path, value in _later().items():
        _add(tree, path, value)
    training, name = place(tree, OVERRIDES)
    if training is not None and isinstance(training.get(name), list | tuple):
        training[name] = [_renamed(one, RENAMED) for one in training[name]]
    return tree


def lacking(stored: dict[str, Any]) -> dict[str, Any]:
    """Options that came after a config was written -> the value of what was done before them."""
    there = flatten(_with_current_names(stored))
    return {path: value for path, value in _later().items() if path not in there}


def kept(
    stored: dict[str, Any], config: ml_collections.ConfigDict
) -> tuple[ml_collections.ConfigDict, dict[str, Any]]:
    """The config with which a command goes on with a stored run, and what that run keeps.

    A run keeps its value of every option of which the command says nothing: of one that is left
    unset, and of one that came after the run and is at its default. Gives {option: value} of those
    that would be others in a new run.
    """
    old, came_later = ml_collections.ConfigDict(tuples(completed(stored))), lacking(stored)
    options, flat = known(), flatten(config.to_dict())
    keeps = {
        path: value
        for path, value, given in differing_options(old, config)
        if path in flat
        and (given is None or (path in came_later and given == options[path].default))
    }
    return with_options(config, keeps), keeps


def differing_options(
    old: ml_collections.ConfigDict, new: ml_collections.ConfigDict
) -> Iterator[tuple[str, Any, Any]]:
    """Yields (path, old value, new value) of options that differ; None for a missing one.

    An option that is unset in one config, and set in the other to what it means, does not differ.
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

    It is computed from the config as the first version would have written it: a later option counts
    only if it changes what is done.
    """
    return checksum_of(flatten(tuples(config.to_dict())))


def identities(config: ml_collections.ConfigDict) -> tuple[int, ...]:
    """The config's own identity, then those of its equivalents (see `differing_options`)."""
    flat = flatten(tuples(config.to_dict()))
    ways = {path: _ways(path, flat[path], config) for path in DERIVED if path in flat}
    written = (dict(zip(ways, values, strict=True)) for values in itertools.product(*ways.values()))
    return tuple(dict.fromkeys(checksum_of(flat | one) for one in written))


def _with_current_names(stored: dict[str, Any]) -> dict[str, Any]:
    """A copy in which renamed options have the names that they have today."""
    tree = copy.deepcopy(stored)
    for old, new in RENAMED.items():
        section, name = place(tree, old)
        # An option that is there under both names is left as it is.
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
    """Options that came after version 0.1.0 -> the value of what was done before."""
    before = {path: option.before for path, option in OPTIONS.items()}
    return {path: value for path, value in before.items() if value is not FROM_THE_START}


def checksum_of(flat: dict[str, Any]) -> int:
    """A checksum of options by their first names, without those that change nothing."""
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
    """The same options by other names; anything but a dictionary is returned unchanged."""
    if not isinstance(options, dict):
        return options
    for old, new in names.items():
        options = {new if path == old else path: value for path, value in options.items()}
    return options


def _derived(path: str, config: ml_collections.ConfigDict) -> Any:
    """What an unset option means; None if that cannot be derived."""
    try:
        return DERIVED[path](with_options(config, {path: None}))
    except (Exception, MemoryError):  # An invalid config, or data that are missing.
        return None


def _ways(path: str, value: Any, config: ml_collections.ConfigDict) -> list[Any]:
    """A derived option's value, then unset or set, where that means the same."""
    meant = _derived(path, config)
    if meant is None or value not in (None, meant):
        return [value]
    return [value, meant if value is None else None]
