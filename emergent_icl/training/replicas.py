"""Replicas: runs that one program trains together, each equivalent to a single run.

Named dictionaries of overrides become complete configs, one per replica. Replicas may differ in
options that do not change shapes (`Option.per_replica`). All get the largest capacity of labels and
positions that any of them needs.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

from ml_collections import ConfigDict

from emergent_icl.config import configs
from emergent_icl.config.identity import DERIVED, OVERRIDES
from emergent_icl.config.registry import nearest_name
from emergent_icl.data.task import Task, make_task
from emergent_icl.models.tokens import position_capacity


class Replica(NamedTuple):
    """One of the runs that are trained together."""

    name: str  # '' for a single run
    config: ConfigDict  # of the corresponding single run; locked
    task: Task


def make_replicas(config: ConfigDict) -> tuple[Replica, ...]:
    """The runs of a valid config; a plain run is the config itself.

    Raises:
      ValueError, KeyError: an override does not fit.
    """
    if configs.is_plain(config):
        return (Replica("", config, make_task(config)),)
    named = configs.named_overrides(config)
    singles = [(name, configs.alone(config, values)) for name, values in named]
    capacity = capacities(tuple(Replica(name, one, make_task(one)) for name, one in singles))
    whole = [(name, configs.with_options(one, capacity)) for name, one in singles]
    return tuple(Replica(name, one, make_task(one)) for name, one in whole)


def capacities(replicas: tuple[Replica, ...]) -> dict[str, int]:
    """Numbers of labels and positions that a model needs for all of these runs, by option."""
    labels = [one.task.num_labels for one in replicas]
    positions = [position_capacity(one.config.model, one.task.longest_seq_len) for one in replicas]
    return {"model.num_labels": max(labels), "model.num_positions": max(positions)}


def _capacity(option: str) -> Callable[[ConfigDict], int]:
    return lambda config: capacities(make_replicas(config)[:1])[option]


DERIVED.update({path: _capacity(path) for path in ("model.num_labels", "model.num_positions")})


def shared_config(config: ConfigDict, replicas: tuple[Replica, ...]) -> ConfigDict:
    """The config for which data are loaded and all replicas are compiled.

    It includes all drawings if replicas differ in them, and noise if any replica has noise.
    """
    if len(replicas) == 1:
        return replicas[0].config
    data = [replica.config.data for replica in replicas]
    drawings = {one.drawings for one in data}
    shared = {
        "data.noise_scale": max(one.noise_scale for one in data),
        "data.drawings": drawings.pop() if len(drawings) == 1 else "all",
    }
    return configs.with_options(config, shared)


def override_problems(config: ConfigDict) -> Iterator[str]:
    """Problems of the overrides themselves; see `together_problems`."""
    training = config.training
    count = len(training.replica_overrides)
    if count and training.replicas not in (1, count):
        yield (
            f"training.replicas = {training.replicas} must be 1 (derived) or {count}, the number "
            f"of training.replica_overrides"
        )
    if configs.is_plain(config):
        return
    may = configs.prefixes("per_replica")
    for name, overrides in configs.named_overrides(config):
        if not configs.is_name(name):
            yield f"{OVERRIDES}: the name {name!r} must be {configs.NAME_RULE}; set 'name'"
        for path in overrides:
            if not path.startswith(may):
                hint = nearest_name(path, [option for option in may if option[-1] != "."])
                yield (
                    f"{OVERRIDES}: {path} is common to all replicas (allowed: "
                    f"{configs.in_words(may)}){hint}"
                )
    # Names become folders, and some file systems ignore case.
    folded = [str(name).lower() for name, _ in configs.named_overrides(config)]
    for name in dict.fromkeys(name for name in folded if folded.count(name) > 1):
        yield f"{OVERRIDES}: two replicas have the name {name!r}"


def together_problems(replicas: tuple[Replica, ...]) -> Iterator[str]:
    """Why valid single runs cannot be trained together."""
    lengths = {replica.name: replica.task.training.seq_len for replica in replicas}
    if len(set(lengths.values())) > 1:
        listed = ", ".join(f"{length} for '{name}'" for name, length in lengths.items())
        yield f"{OVERRIDES}: all replicas must have the same sequence length, not {listed}"
    shapes = {replica.task.shape._replace(num_exemplars=1) for replica in replicas}
    if len(shapes) > 1:
        yield (
            f"{OVERRIDES}: data.drawings = 'separated' changes the classes; it cannot be combined "
            f"with 'all' or 'single'"
        )
    data = [replica.config.data for replica in replicas]
    if data[0].random_rare_images and len({one.split.to_json() for one in data}) > 1:
        yield (
            f"{OVERRIDES}: with data.random_rare_images all replicas must have the same rare "
            f"classes; data.split differs"
        )
