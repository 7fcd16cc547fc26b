"""Initial weights from another run: read, checked against the model, put into the first state."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import jax
import ml_collections

from emergent_icl.config.check import ConfigError
from emergent_icl.config.configs import named_overrides, with_options
from emergent_icl.config.registry import nearest_name
from emergent_icl.runs import processes
from emergent_icl.runs.check import check
from emergent_icl.runs.checkpoints import CheckpointStore, checksum
from emergent_icl.runs.open import replica_index
from emergent_icl.runs.workdir import DivergedError, Workdir, WorkdirError
from emergent_icl.training import devices
from emergent_icl.training.build import Experiment, blank_inputs, build_network
from emergent_icl.training.replicas import Replica
from emergent_icl.training.step import initial_state
from emergent_icl.training.update import TrainState, Weights, named_weights

# Arrays named in a message about shapes.
_MOST_NAMED = 5
# The option that records which weights were used.
CHECKSUM = "training.initial.checksum"


def find(
    config: ml_collections.ConfigDict, replicas: tuple[Replica, ...], workdir: Workdir
) -> tuple[ml_collections.ConfigDict, tuple[Replica, ...], Sequence[Weights]]:
    """Reads the weights that a new run starts from, and records their checksum in its config.

    Only process 0 gets weights. There are none if the config names no run, or if this run has
    checkpoints: then it no longer needs the other run.

    Raises:
      ConfigError: on every process, if they are unreadable, do not fit, or are not those recorded.
    """
    recorded, weights, problems = config.training.initial.checksum, [], []
    if not any(one.config.training.initial.run for one in replicas):
        if recorded is not None:
            raise ConfigError([f"{CHECKSUM} = {recorded} needs training.initial.run"])
        return config, replicas, weights
    if processes.is_primary() and (recorded is None or not workdir.holds_checkpoints()):
        weights, problems = read(replicas)
        found = checksum(weights)
        if not problems and recorded not in (None, found):
            problems = [
                f"{CHECKSUM} = {recorded} is recorded, but the weights that training.initial names "
                f"now have {found}; use the same run and step, or another --workdir"
            ]
        recorded = found
    recorded, problems = processes.of_primary([recorded, problems])
    if problems:
        raise ConfigError(problems)
    config = with_options(config, {CHECKSUM: recorded})
    return config, check(config, jax.device_count()), weights


def read(replicas: Sequence[Replica]) -> tuple[list[Weights], list[str]]:
    """Initial weights of each replica, and why they cannot be used; compiles nothing."""
    weights, problems = [], []
    for name, config, task in replicas:
        who, source, taken = f"replica '{name}': " * bool(name), config.training.initial, {}
        if source.run:
            init = build_network(config, task).init
            here = named_weights(*jax.eval_shape(init, jax.random.PRNGKey(0), *blank_inputs(task)))
            found = _unmatched(source.modules, {module for _, module, _ in here})
            try:
                taken = _chosen(_read(source), source.modules)
                found += _unfit(taken, _chosen(here, source.modules))
            except (WorkdirError, OSError) as error:
                found.append(str(error))
            problems += (f"{who}training.initial.run = {source.run!r}: {one}" for one in found)
        weights.append(taken)
    return weights, problems


def first_state(experiment: Experiment, weights: Sequence[Weights]) -> TrainState:
    """The state before the first step, [R, ...] on the host, with these weights."""
    state = initial_state(experiment)
    for index, taken in enumerate(weights):
        for (kind, module, name), leaf in taken.items():
            getattr(state, kind)[module][name][index] = leaf
    if not weights:
        return state
    own = [jax.tree.map(lambda leaf, i=i: leaf[i], state.params) for i in range(len(weights))]
    return state._replace(opt_state=devices.stack_replicas([*map(experiment.optimizer.init, own)]))


def check_sources(config: ml_collections.ConfigDict, workdir: Workdir) -> None:
    """Checks that the checkpoints exist that a new run in a folder starts from; uses no device.

    Raises:
      WorkdirError: names the replica of which one is missing.
    """
    named = [] if workdir.holds_checkpoints() else named_overrides(config)
    for name, overrides in named:
        source = with_options(config, overrides).training.initial
        try:
            if source.run:
                _locate(source)
        except WorkdirError as error:
            who = f"replica '{name}': " * bool(name)
            raise WorkdirError(f"{who}training.initial.run = {source.run!r}: {error}") from error


def _locate(source: ml_collections.ConfigDict) -> tuple[Workdir, list[str], int]:
    """The folder that `config.training.initial` names, its replicas, and the index of one."""
    folder = Workdir(source.run)
    names = [name for name, _ in named_overrides(folder.read_config())]
    index = replica_index(folder, names, source.replica or None)
    CheckpointStore(folder.checkpoints).find(source.step)
    return folder, names, index


def _read(source: ml_collections.ConfigDict) -> Weights:
    """All weights of the replica that `config.training.initial` names."""
    folder, names, index = _locate(source)
    with CheckpointStore(folder.checkpoints) as store:
        _, (params, batch_stats, diverged) = store.read(source.step, store.restore_weights)
    if names[index] in diverged:
        raise DivergedError(f"replica '{names[index]}' diverged")
    return {key: leaf[index] for key, leaf in named_weights(params, batch_stats).items()}


def _chosen(weights: Weights, prefixes: Sequence[str]) -> Weights:
    """The weights of modules at or below one of these paths; without paths, all."""
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


def _unfit(there: Weights, here: Weights) -> Iterator[str]:
    """Differences between the weights of a source and those of the model, in one message."""
    old, new = ({k: f"{x.dtype} {list(x.shape)}" for k, x in one.items()} for one in (there, here))
    differ = [
        f"\n    {'/'.join(key[1:])} is {old.get(key, 'missing')} there, "
        f"{new.get(key, 'missing')} here"
        for key in sorted(old.keys() | new.keys())
        if old.get(key) != new.get(key)
    ]
    if differ:
        more = f"\n    and {len(differ) - _MOST_NAMED} more" * (len(differ) > _MOST_NAMED)
        lines = "".join(differ[:_MOST_NAMED]) + more
        yield f"its weights do not fit (choose others with training.initial.modules):{lines}"
