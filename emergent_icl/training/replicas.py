"""Replicas: runs that are trained together, by one program, and equal the runs they would be alone.

A list of named override dictionaries becomes a list of whole configs, each that of a run on its
own. They may differ in whatever leaves shapes alone (`Option.per_replica`); what must be as large
as the largest needs it, the capacity of labels and of positions, is given to all of them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import ml_collections

from emergent_icl.config.configs import alone, is_plain, named_overrides, with_options
from emergent_icl.config.identity import DERIVED
from emergent_icl.data.task import Task, make_task
from emergent_icl.models.tokens import position_capacity


class Replica(NamedTuple):
    """One of the runs that are trained together."""

    name: str  # '' for a run that is alone
    config: ml_collections.ConfigDict  # whole, of the run that it would be alone; locked
    task: Task


def make_replicas(config: ml_collections.ConfigDict) -> tuple[Replica, ...]:
    """The runs of a valid config; a plain run is the config itself.

    Raises:
      ValueError, KeyError: an override does not fit.
    """
    if is_plain(config):
        return (Replica("", config, make_task(config)),)
    singles = [(name, alone(config, values)) for name, values in named_overrides(config)]
    capacity = capacities(tuple(Replica(name, one, make_task(one)) for name, one in singles))
    configs = [(name, with_options(one, capacity)) for name, one in singles]
    return tuple(Replica(name, one, make_task(one)) for name, one in configs)


def capacities(replicas: tuple[Replica, ...]) -> dict[str, int]:
    """What a model must hold for all of these runs: {option: number of labels, of positions}."""
    labels = (replica.task.num_labels for replica in replicas)
    positions = (
        position_capacity(replica.config.model, replica.task.longest_seq_len)
        for replica in replicas
    )
    return {"model.num_labels": max(labels), "model.num_positions": max(positions)}


def _capacity(option: str) -> Callable[[ml_collections.ConfigDict], int]:
    return lambda config: capacities(make_replicas(config)[:1])[option]


DERIVED.update({path: _capacity(path) for path in ("model.num_labels", "model.num_positions")})


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
