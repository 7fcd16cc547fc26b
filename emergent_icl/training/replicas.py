"""Replicas: runs that are trained together, by one program, and equal the runs they would be alone.

A list of named override dictionaries becomes a list of whole configs, each that of a run on its
own. They may differ in whatever leaves shapes alone (MAY_DIFFER); what must be as large as
the largest needs it, the capacity of labels and of positions, is given to all of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import ml_collections

from emergent_icl.config.configs import (
    DERIVED,
    MAY_DIFFER,
    NAME_RULE,
    alone,
    is_name,
    is_plain,
    named_overrides,
    with_options,
)
from emergent_icl.config.registry import nearest_name
from emergent_icl.data.task import Task, make_task


class Replica(NamedTuple):
    """One of the runs that are trained together.

    Attributes:
      name: of the replica; '' for a run that is alone.
      config: the whole config of the run that it would be alone, locked.
      task: of that config.
    """

    name: str
    config: ml_collections.ConfigDict
    task: Task


def make_replicas(config: ml_collections.ConfigDict) -> tuple[Replica, ...]:
    """The runs of a valid config; a plain run is the config itself.

    Raises:
      ValueError, KeyError: an override does not fit.
    """
    if is_plain(config):
        return (Replica("", config, make_task(config)),)
    singles = [(name, alone(config, values)) for name, values in named_overrides(config)]
    tasks = [make_task(one) for _, one in singles]
    capacity = {
        "model.num_labels": max(task.num_labels for task in tasks),
        "model.num_positions": max(task.num_positions for task in tasks),
    }
    configs = [(name, with_options(one, capacity)) for name, one in singles]
    return tuple(Replica(name, one, make_task(one)) for name, one in configs)


DERIVED["model.num_labels"] = lambda config: make_replicas(config)[0].task.num_labels
DERIVED["model.num_positions"] = lambda config: make_replicas(config)[0].task.num_positions


def find_replica(config: ml_collections.ConfigDict, name: str | None) -> Replica:
    """The replica of a name, the first if that is None.

    Args:
      config: valid, but for its replicas.
      name: of the replica.

    Raises:
      ValueError: there is none of that name.
    """
    found = make_replicas(config)
    for replica in found:
        if name is None or replica.name == name:
            return replica
    names = ", ".join(repr(replica.name) for replica in found if replica.name)
    raise ValueError(f"no replica is named {name!r}, only {names or 'a run that is alone'}")


def shared_config(
    config: ml_collections.ConfigDict, replicas: tuple[Replica, ...]
) -> ml_collections.ConfigDict:
    """What all replicas look examples up in, and are compiled for.

    All drawings where one of them needs all, noise where one of them has noise.
    """
    if len(replicas) == 1:
        return replicas[0].config
    data = [replica.config.data for replica in replicas]
    drawings = {one.drawings for one in data}
    shared = {
        "data.noise_scale": max(one.noise_scale for one in data),
        "data.drawings": drawings.pop() if len(drawings) == 1 else "all",
    }
    return with_options(config, shared)


def override_problems(config: ml_collections.ConfigDict) -> Iterator[str]:
    """What is wrong with the overrides by themselves; see `together_problems`."""
    training = config.training
    count = len(training.replica_overrides)
    if count and training.replicas not in (1, count):
        yield (
            f"training.replicas = {training.replicas} must be 1 (derived) or {count}, the number "
            f"of training.replica_overrides"
        )
    if is_plain(config):
        return
    names = [name for name, _ in named_overrides(config)]
    for name, overrides in named_overrides(config):
        if not is_name(name):
            yield (
                f"training.replica_overrides: the name {name!r} must be {NAME_RULE}; "
                f"give one as 'name'"
            )
        for path in overrides:
            if not path.startswith(MAY_DIFFER):
                hint = nearest_name(path, [option for option in MAY_DIFFER if option[-1] != "."])
                may = ", ".join(prefix + "*" * prefix.endswith(".") for prefix in MAY_DIFFER)
                yield (
                    f"training.replica_overrides: {path} is common to all replicas (may differ: "
                    f"{may}){hint}"
                )
    # Not every file system tells 'a' from 'A'.
    folded = [str(name).lower() for name in names]
    for name in dict.fromkeys(name for name in folded if folded.count(name) > 1):
        yield f"training.replica_overrides: two replicas have the name {name!r}"


def together_problems(
    config: ml_collections.ConfigDict, replicas: tuple[Replica, ...]
) -> Iterator[str]:
    """Why runs that are possible alone cannot be trained together."""
    lengths = {replica.name: replica.task.training.seq_len for replica in replicas}
    if len(set(lengths.values())) > 1:
        told = ", ".join(f"{length} of '{name}'" for name, length in lengths.items())
        yield f"training.replica_overrides: sequences must be of one length, not {told}"
    shapes = {replica.task.shape._replace(num_exemplars=1) for replica in replicas}
    if len(shapes) > 1:
        yield (
            "training.replica_overrides: data.drawings = 'separated' makes other classes; it "
            "cannot stand beside 'all' or 'single'"
        )
    if config.data.random_rare_images:
        splits = {replica.config.data.split.to_json() for replica in replicas}
        if len(splits) > 1:
            yield (
                "training.replica_overrides: with data.random_rare_images all replicas must have "
                "the same rare classes; data.split differs"
            )
