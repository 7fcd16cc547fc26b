"""Leaks: initial weights that were trained on classes or exemplars which a run holds out."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from ml_collections import ConfigDict

from emergent_icl.config.configs import alone, named_overrides, tuples
from emergent_icl.config.registry import DATA_SOURCES
from emergent_icl.data.sequences.classes import ClassSpace
from emergent_icl.data.sources.source import DataUnavailableError, shown_classes, source_shape
from emergent_icl.data.task import Task, class_space
from emergent_icl.runs.open import named_run
from emergent_icl.runs.workdir import WorkdirError
from emergent_icl.training.replicas import Replica


def warnings(replicas: Sequence[Replica]) -> Iterator[str]:
    """Replicas whose initial weights were trained on classes or exemplars that they hold out."""
    for name, config, task in replicas:
        trained, space = _trained_on(config, task), task.space
        run = f"{who(name)}training.initial.run = {config.training.initial.run!r} was trained on"
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
        start = f"{who(name)}training.initial.run = {run!r}"
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
            folder, _, index = named_run(source)
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


def who(name: str) -> str:
    """The start of a message about a replica; '' for a single run."""
    return f"replica '{name}': " if name else ""
