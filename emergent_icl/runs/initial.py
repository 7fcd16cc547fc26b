"""Initial weights from another run: reads, checks, and inserts them into the first state."""

import logging
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from ml_collections import ConfigDict

from emergent_icl.config.check import ConfigError
from emergent_icl.config.configs import alone, named_overrides, tuples, with_options
from emergent_icl.config.registry import DATA_SOURCES, nearest_name
from emergent_icl.data.sequences.classes import ClassSpace
from emergent_icl.data.sources.source import DataUnavailableError, shown_classes, source_shape
from emergent_icl.data.task import Task, class_space
from emergent_icl.runs import processes
from emergent_icl.runs.check import check
from emergent_icl.runs.checkpoints import CheckpointStore, checksum
from emergent_icl.runs.open import replica_index
from emergent_icl.runs.workdir import DivergedError, Workdir, WorkdirError
from emergent_icl.training import devices
from emergent_icl.training.build import Experiment, weight_shapes
from emergent_icl.training.replicas import Replica
from emergent_icl.training.step import initial_state
from emergent_icl.training.update import TrainState, Weights, named_weights

logger = logging.getLogger(__name__)

# Maximum number of arrays that an error lists.
_MOST_LISTED = 5
# The option that records which weights were used.
CHECKSUM = "training.initial.checksum"


def find(
    config: ConfigDict, replicas: tuple[Replica, ...], workdir: Workdir
) -> tuple[ConfigDict, tuple[Replica, ...], Sequence[Weights]]:
    """Reads the initial weights of a run; returns (config, replicas, weights).

    The config gets the checksum of the weights. There are none on processes other than 0, if the
    config names no run, or if this run already has checkpoints: it no longer needs the other run.

    Raises:
      ConfigError: on every process, if they are unreadable, do not fit, or have changed.
    """
    recorded, weights, problems = config.training.initial.checksum, [], []
    if not any(one.config.training.initial.run for one in replicas):
        if recorded is not None:
            raise ConfigError([f"{CHECKSUM} = {recorded} needs training.initial.run"])
        return config, replicas, weights
    if processes.is_primary() and (recorded is None or not workdir.holds_checkpoints()):
        weights, problems = read(replicas)
        found = checksum(weights)
        for warning in () if problems else (*warnings(replicas), *doubts(replicas)):
            logger.warning("%s", warning)
        if not problems and recorded not in (None, found):
            problems = [
                f"{CHECKSUM} = {recorded} is recorded, but the weights of training.initial.run now "
                f"have checksum {found}; use the same run and step, or another --workdir"
            ]
        recorded = found
    recorded, problems = processes.of_primary([recorded, problems])
    if problems:
        raise ConfigError(problems)
    config = with_options(config, {CHECKSUM: recorded})
    return config, check(config, jax.device_count()), weights


def read(replicas: Sequence[Replica]) -> tuple[list[Weights], list[str]]:
    """Initial weights of each replica, and problems with them; compiles nothing."""
    weights, problems = [], []
    for name, config, task in replicas:
        source, loaded = config.training.initial, {}
        if source.run:
            here = named_weights(*weight_shapes(config, task))
            found = _unmatched(source.modules, {module for _, module, _ in here})
            try:
                loaded = _selected(_read(source), source.modules)
                found += _mismatches(loaded, _selected(here, source.modules))
            except (WorkdirError, OSError) as error:
                found.append(str(error))
            where = f"{_who(name)}training.initial.run = {source.run!r}"
            problems += (f"{where}: {one}" for one in found)
        weights.append(loaded)
    return weights, problems


def warnings(replicas: Sequence[Replica]) -> Iterator[str]:
    """Replicas whose initial weights were trained on classes or exemplars that they hold out."""
    for name, config, task in replicas:
        trained, space = _trained_on(config, task), task.space
        run = f"{_who(name)}training.initial.run = {config.training.initial.run!r} was trained on"
        again = "by itself or through the runs from which it started"
        held_out = _source_classes(config, space, "holdout")
        if leaked := np.count_nonzero(np.isin(held_out, [*trained.classes])):
            yield (
                f"{run} {leaked} of the {space.split.num_holdout} classes that are held out here, "
                f"{again}, so ICL is not measured on new classes (the same options in data.split "
                "avoid this)"
            )
        if leaked := len(trained.exemplars.intersection(space.holdout_exemplars)):
            yield (
                f"{run} {leaked} of the {len(space.holdout_exemplars)} exemplars that are held out "
                f"here, {again}, so they are not new (the same data.split.num_holdout_exemplars "
                "and seed avoid this)"
            )


def doubts(replicas: Sequence[Replica]) -> Iterator[str]:
    """Replicas of which it is unknown what their initial weights were trained on."""
    for name, config, task in replicas:
        run, trained = config.training.initial.run, _trained_on(config, task)
        start = f"{_who(name)}training.initial.run = {run!r}"
        unknown = "it is unknown whether that run was trained on classes that are held out here"
        # `read` reports a source that is itself unreadable.
        if trained.unreadable not in ("", run):
            yield f"{start} started from {trained.unreadable}, which cannot be read: {unknown}"
        if trained.unclear:
            that = "it" if trained.unclear == run else f"{trained.unclear}, from which it started,"
            yield (
                f"{start}: {that} has other options in data.{config.data.source}, so it is unknown "
                "whether it was trained on classes or exemplars that are held out here"
            )


class _Trained(NamedTuple):
    """What initial weights were trained on, of the source of a run."""

    classes: set[int]
    exemplars: set[int]  # Of classes on which the run trains, too.
    unreadable: str  # The first run that cannot be read.
    unclear: str  # The first run of which it is unknown whether its data are the same.


def _trained_on(config: ConfigDict, task: Task) -> _Trained:
    """What the initial weights of a run were trained on."""
    classes, exemplars, unclear = set[int](), set[int](), ""
    source, seen = config.training.initial, set[tuple[Path, int]]()
    try:
        while source.run:
            folder, _, index = _find(source)
            if (folder.path, index) in seen:  # A folder may have been used again.
                break
            seen.add((folder.path, index))
            stored = folder.read_config()
            there = alone(stored, named_overrides(stored)[index][1])
            *found, is_known = _shown(there, config, task)
            classes, exemplars = classes | found[0], exemplars | found[1]
            unclear = unclear or ("" if is_known else source.run)
            source = there.training.initial
    except (WorkdirError, DataUnavailableError, ValueError, OSError):
        return _Trained(classes, exemplars, source.run, unclear)
    return _Trained(classes, exemplars, "", unclear)


def _shown(there: ConfigDict, config: ConfigDict, task: Task) -> tuple[set[int], set[int], bool]:
    """What a run was trained on: classes of the source; exemplars; whether this is all.

    Exemplars count only if `config` holds some out and trains on some of the same classes.
    """
    if there.data.source != config.data.source:
        return set(), set(), True
    if _identifies(there) != _identifies(config):
        return set(), set(), not _reads_files(config)
    other = class_space(there.data, source_shape(there.data))
    classes = {*_source_classes(there, other, "zipfian")}
    is_shared = not classes.isdisjoint(_source_classes(config, task.space, "zipfian"))
    if not is_shared or not len(task.space.holdout_exemplars):
        return classes, set(), True
    # Generated exemplars may depend on their number.
    if _reads_files(config) or _section(there) == _section(config):
        return classes, _exemplars(there, other), True
    return classes, set(), False


def _source_classes(config: ConfigDict, space: ClassSpace, role: str) -> list[int]:
    """The source's class that each class of a role shows, whatever its drawing or variant."""
    ids = space.split.class_ids[space.split.places(role)]
    return (ids // shown_classes(config.data)).tolist()


def _exemplars(config: ConfigDict, space: ClassSpace) -> set[int]:
    """The source's exemplars on which a run was trained."""
    if config.data.drawings == "separated":  # Each is a class.
        return {*range(DATA_SOURCES[config.data.source].shape(config.data).num_exemplars)}
    return {*range(source_shape(config.data).num_exemplars)} - {*space.holdout_exemplars}


def _identifies(config: ConfigDict) -> dict[str, Any]:
    """Options that determine which class a number of the source stands for."""
    keep = DATA_SOURCES[config.data.source].keep_classes
    return {option: one for option, one in _section(config).items() if option not in keep}


def _section(config: ConfigDict) -> dict[str, Any]:
    """Options of the source, with absolute paths."""
    section = tuples(config.data.get(config.data.source, ConfigDict()).to_dict())
    if path := section.get("path"):
        section["path"] = os.path.realpath(os.path.expanduser(path))
    return section


def _reads_files(config: ConfigDict) -> bool:
    return DATA_SOURCES[config.data.source].generator is None


def _who(name: str) -> str:
    return f"replica '{name}': " if name else ""


def first_state(experiment: Experiment, weights: Sequence[Weights]) -> TrainState:
    """The state before the first step, [R, ...] on the host, with the given weights, if any."""
    state = initial_state(experiment)
    for index, loaded in enumerate(weights):
        for (kind, module, name), leaf in loaded.items():
            getattr(state, kind)[module][name][index] = leaf
    if not weights:
        return state
    own = [jax.tree.map(lambda leaf, i=i: leaf[i], state.params) for i in range(len(weights))]
    return state._replace(opt_state=devices.stack_replicas([*map(experiment.optimizer.init, own)]))


def check_sources(config: ConfigDict, workdir: Workdir) -> None:
    """Checks that the checkpoints from which a new run would start exist; uses no device.

    Raises:
      WorkdirError: one is missing; names the replica.
    """
    named = [] if workdir.holds_checkpoints() else named_overrides(config)
    for name, overrides in named:
        source = with_options(config, overrides).training.initial
        try:
            if source.run:
                _locate(source)
        except WorkdirError as error:
            where = f"{_who(name)}training.initial.run = {source.run!r}"
            raise WorkdirError(f"{where}: {error}") from error


def _locate(source: ConfigDict) -> tuple[Workdir, list[str], int]:
    """Like `_find`; also checks that the checkpoint exists."""
    folder, names, index = _find(source)
    CheckpointStore(folder.checkpoints).find(source.step)
    return folder, names, index


def _find(source: ConfigDict) -> tuple[Workdir, list[str], int]:
    """The folder that `config.training.initial` names, its replicas, and the index of one."""
    folder = Workdir(source.run)
    names = [name for name, _ in named_overrides(folder.read_config())]
    return folder, names, replica_index(folder, names, source.replica or None)


def _read(source: ConfigDict) -> Weights:
    """All weights of the replica that `config.training.initial` names."""
    folder, names, index = _locate(source)
    with CheckpointStore(folder.checkpoints) as store:
        _, (params, batch_stats, diverged) = store.read(source.step, store.restore_weights)
    if names[index] in diverged:
        raise DivergedError(f"replica '{names[index]}' diverged")
    return {key: leaf[index] for key, leaf in named_weights(params, batch_stats).items()}


def _selected(weights: Weights, prefixes: Sequence[str]) -> Weights:
    """The weights of modules at or below one of these paths; all if there are none."""
    below = tuple(f"{prefix}/" for prefix in prefixes) or ""
    return {key: leaf for key, leaf in weights.items() if f"{key[1]}/".startswith(below)}


def _unmatched(prefixes: Sequence[str], modules: set[str]) -> list[str]:
    """Messages for prefixes that name no module."""
    parts = [module.split("/") for module in modules]
    known = sorted({"/".join(part[:count]) for part in parts for count in range(1, len(part) + 1)})
    tops = ", ".join(name for name in known if "/" not in name)
    return [
        f"the model has no module {prefix!r} (it has {tops}){nearest_name(prefix, known)}"
        for prefix in prefixes
        if prefix not in known
    ]


def _mismatches(there: Weights, here: Weights) -> Iterator[str]:
    """One message about all differences between the weights of a source and of the model."""
    old, new = ({k: f"{x.dtype} {list(x.shape)}" for k, x in one.items()} for one in (there, here))
    differ = [
        f"\n    {'/'.join(key[1:])} is {old.get(key, 'missing')} there, "
        f"{new.get(key, 'missing')} here"
        for key in sorted(old.keys() | new.keys())
        if old.get(key) != new.get(key)
    ]
    if differ:
        more = f"\n    and {len(differ) - _MOST_LISTED} more" * (len(differ) > _MOST_LISTED)
        lines = "".join(differ[:_MOST_LISTED]) + more
        yield f"its weights do not fit (select modules with training.initial.modules):{lines}"
